"""Distil, prune and quantize neural networks into INT8 TFLite flatbuffers."""
