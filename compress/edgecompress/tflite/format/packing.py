"""From a flatbuffer's objects to its bytes, nothing stored twice."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

#: Buffers start at multiples of this many bytes (`force_align: 16` in the schema): microcontroller kernels rely on it.
BUFFER_ALIGNMENT = 16


class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that stores equal vectors and strings once: flatbuffers may share them, and every runtime reads it.

    Per-channel zero points are the case that matters: 8 bytes a channel for each weight and bias, all zero.
    """

    def __init__(self, size: int) -> None:
        """Starts with a buffer of `size` bytes; it grows."""
        super().__init__(size)
        self._vectors: dict[tuple[str, bytes], int] = {}
        self._strings: dict[bytes, int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 - the base class's name
        """Returns the offset of a vector, an earlier one where it is equal."""
        key = (x.dtype.str, x.tobytes())
        if key not in self._vectors:
            if x.dtype == np.uint8:
                self.StartVector(1, len(x), BUFFER_ALIGNMENT)
                self.head = self.Head() - len(x)
                self.Bytes[self.Head() : self.Head() + len(x)] = x.tobytes()
                self._vectors[key] = self.EndVector()
            else:
                self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        """Returns the offset of a string, an earlier one where it is equal (all constants have the empty name)."""
        key = s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
        if key not in self._strings:
            self._strings[key] = super().CreateString(key)
        return self._strings[key]


def pack(model: schema.ModelT) -> bytes:
    """Returns the flatbuffer's bytes, equal vectors stored once; the same model gives the same bytes."""
    builder = SharingBuilder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
