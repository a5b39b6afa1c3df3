"""The grids that values lie on: ranges, scales and zero points of activations, steps of weights."""
