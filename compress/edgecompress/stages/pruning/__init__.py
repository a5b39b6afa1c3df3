"""What the prune stage is made of."""
