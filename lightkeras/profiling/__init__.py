"""What an update costs: floating-point operations and memory, counted in its compiled graph."""
