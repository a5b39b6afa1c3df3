"""What a recipe may hold, and which steps follow from it."""
