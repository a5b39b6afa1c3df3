"""The stages of a run, one file each; what serves one of them lies in a room named after it."""
