"""Training: the objective, the loop, and what to watch while it runs."""
