"""Which operators of a flatbuffer become integers, and which stay float."""
