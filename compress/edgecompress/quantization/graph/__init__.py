"""A flatbuffer's graph, its operators in torch, and its constants on their way in and out."""
