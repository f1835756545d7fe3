"""The run file: its schema, reading, writing, and the table that everything downstream uses."""
