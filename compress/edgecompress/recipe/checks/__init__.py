"""What is refused although each key is right by itself."""
