"""Reading and writing flatbuffers."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compress.errors import ResourceError


def read_model(source: Path | bytes) -> schema.ModelT:
    """Returns the unpacked flatbuffer."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise ResourceError("not a TFLite flatbuffer")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.data is None and buffer.offset:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write_model(model: schema.ModelT) -> bytes:
    """Returns the packed flatbuffer."""
    from compress.tflite.finish import pack

    return pack(model)


def sizes(path: Path) -> dict[str, int]:
    content = path.read_bytes()
    return {"size_bytes": len(content), "gzip_bytes": len(gzip.compress(content, 9, mtime=0))}
