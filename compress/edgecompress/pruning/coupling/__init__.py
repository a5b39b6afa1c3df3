"""Which channels have to go together, and how they are cut out."""
