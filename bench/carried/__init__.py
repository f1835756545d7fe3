"""What is carried into a foreign Python environment by the folder's path; imports nothing of us."""
