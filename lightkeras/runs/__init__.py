"""A run's folder, and its state as arrays and JSON."""
