"""The file: made by the converter, read, changed, and written again."""
