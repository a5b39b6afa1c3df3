"""INT8: the twin that simulates a quantized flatbuffer, calibration and quantization-aware training."""
