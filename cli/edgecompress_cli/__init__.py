"""The command line: a thin layer over `compress`."""
