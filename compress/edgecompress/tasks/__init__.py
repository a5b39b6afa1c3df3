"""Tasks: how inputs reach the network, what is learnt, and what is measured."""
