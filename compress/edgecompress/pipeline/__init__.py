"""From a recipe to a finished run: the plan, the loop, the lock file, and finished runs checked again."""
