"""One file per command, each with a function of the command's name."""
