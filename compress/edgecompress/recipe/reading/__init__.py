"""How text becomes a recipe, or a list of what is wrong with it."""
