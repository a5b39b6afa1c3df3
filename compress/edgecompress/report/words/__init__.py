"""What terminal, Markdown and HTML say alike: tables and sentences."""
