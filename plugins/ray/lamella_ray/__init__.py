"""Many requests as a step of a Ray Data pipeline."""
