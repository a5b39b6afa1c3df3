"""Pruning: channels, heads and hidden units that go, or single weights that become zero; pruned models come back."""
