"""What a flatbuffer holds: operators, types, weights, bytes."""
