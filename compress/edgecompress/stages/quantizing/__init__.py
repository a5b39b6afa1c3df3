"""What the quantize stage is made of."""
