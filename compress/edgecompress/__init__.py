"""Distil, prune and quantize neural networks into INT8 TFLite flatbuffers."""

__version__ = "0.1.0"
