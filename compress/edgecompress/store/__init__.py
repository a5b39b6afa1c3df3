"""The content-addressed store of finished steps, and files that are whole or absent."""
