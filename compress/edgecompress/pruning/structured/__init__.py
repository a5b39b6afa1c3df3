"""Structured pruning: whole channels go, so that the model is really smaller and faster."""
