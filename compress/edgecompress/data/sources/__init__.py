"""What a recipe's `data.source` can name, one file each."""
