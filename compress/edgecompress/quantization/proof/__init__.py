"""A flatbuffer held against its twin, and a twin against the float model, layer by layer."""
