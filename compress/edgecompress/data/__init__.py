"""Data: sources, how they are read, split, hashed and brought into the form a network takes."""
