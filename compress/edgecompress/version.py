"""The version, by itself: whoever stores or compares it needs nothing else."""

__version__ = "0.1.0"
