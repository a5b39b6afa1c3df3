"""What the verify stage is made of."""
