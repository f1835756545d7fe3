"""What follows from measurements side by side: speedup and crossover."""
