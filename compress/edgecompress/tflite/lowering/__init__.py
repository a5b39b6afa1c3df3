"""Torch's operators as others that the converter takes, and INT8 kernels like."""
