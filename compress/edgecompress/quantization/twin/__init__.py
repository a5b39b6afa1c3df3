"""The twin: what an INT8 flatbuffer computes, in torch, to the bit."""
