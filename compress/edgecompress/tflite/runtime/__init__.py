"""Interpreters: one interface to all, processes of their own, latency, arena, and whether they agree."""
