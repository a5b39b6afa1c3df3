"""Reading and writing flatbuffers, with every number in them checked before anything relies on it.

Files come from outside: a damaged one must end in a clear message, never in a traceback, a hang or a wrong figure.
"""

from __future__ import annotations

import gzip
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.errors import ResourceError
from edgecompress.store.reading import read_bounded

#: Offsets in a flatbuffer have 31 bits.
LARGEST_BYTES = 2**31
#: The strongest of zstd's ordinary levels; those above it ask more memory of whoever unpacks the file.
ZSTD_LEVEL, GZIP_LEVEL = 19, 9
#: Larger files are packed as the programs do unless told otherwise: zstd's strongest level takes a second for a MB, and
#: saves a tenth of INT8 weights of which half are zero, of float32 ones nothing.
STRONGLY_PACKED_BYTES = 4 * 2**20
USUAL_ZSTD_LEVEL, USUAL_GZIP_LEVEL = 3, 6
#: Bytes 4 to 8 of every TFLite flatbuffer.
IDENTIFIER = b"TFL3"
HEADER_BYTES = 8
#: The least a table takes: its offset in a vector and the offset of its vtable. A file cannot hold more of them.
TABLE_BYTES = 8
#: Vectors and texts may be shared within a file, so that what they come to once unpacked grows with its square. Of a
#: file as converters write them this comes to less than the file; equal vectors of it may be stored once.
TEXT_SHARE, VECTOR_SHARE, FREE_BYTES = 2, 4, 64 * 1024
#: Tables take some kilobytes each in memory; a network of a thousand unrolled steps has 70,000 of them.
MOST_TABLES = 100_000
#: No runtime has tensors of so many axes.
MOST_AXES = 64
#: The one schema version there is.
SCHEMA_VERSION = 3
#: What the generated reader raises when an offset or a count points outside of the file.
_PARSE_ERRORS = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def read_model(source: Path | bytes, *, finite: bool = True, name: str = "") -> schema.ModelT:
    """Returns the unpacked flatbuffer; tensor data are read-only views of the file's bytes.

    Every reference in it (operator codes, tensors, buffers) is valid, lists are never None, and texts are bytes.

    Args:
        source: A file, or its content.
        name: What the content is called, where it is that of a file.
        finite: Whether scales have to be finite numbers; those of a file that is still being made need not be.

    Raises:
        ResourceError: The file cannot be read, is no TFLite flatbuffer, or is damaged.
    """
    name = name or ("the flatbuffer" if isinstance(source, bytes) else str(source))
    content = source if isinstance(source, bytes) else read_content(source)
    if len(content) < HEADER_BYTES or content[4:8] != IDENTIFIER:
        raise ResourceError(
            f"{name} is not a TFLite flatbuffer ({IDENTIFIER.decode()!r} is missing at byte 4). "
            "Expected a .tflite file as `edgecompress run` or a TFLite converter writes it."
        )
    try:
        _check_counts(content)
        model = schema.ModelT.InitFromPackedBuf(_Metered(content), 0)
        _check_vectors(model, len(content))
        _complete(model, content)
        _check_references(model, finite=finite)
        _check_names(model, len(content))
    except _PARSE_ERRORS as error:
        raise ResourceError(
            f"{name} is damaged: {error or type(error).__name__}. It was cut short or changed after it was written; "
            "make it or copy it again."
        ) from error
    return model


def read_content(path: Path) -> bytes:
    """Returns a file's bytes.

    Raises:
        ResourceError: It cannot be read.
    """
    try:
        return read_bounded(path, LARGEST_BYTES, "a flatbuffer")
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror or error}. Expected a .tflite file.") from error


def write_model(model: schema.ModelT) -> bytes:
    """Returns the packed flatbuffer, equal vectors stored once; the same model gives the same bytes."""
    from edgecompress.tflite.format.packing import pack

    return pack(model)


def sizes(path: Path) -> dict[str, int]:
    """Returns a file's size, and what gzip and zstd make of it (see `packed_sizes`).

    Raises:
        ResourceError: It cannot be read.
    """
    return packed_sizes(read_content(path))


def packed_sizes(content: bytes) -> dict[str, int]:
    """Returns the size of some bytes, and what gzip and zstd make of them.

    At levels 9 and 19; beyond STRONGLY_PACKED_BYTES at 6 and 3.

    Keys: `size_bytes`, `gzip_bytes`, `zstd_bytes`.
    """
    strong = len(content) <= STRONGLY_PACKED_BYTES
    gzip_level = GZIP_LEVEL if strong else USUAL_GZIP_LEVEL
    zstd_level = ZSTD_LEVEL if strong else USUAL_ZSTD_LEVEL
    return {
        "size_bytes": len(content),
        "gzip_bytes": len(gzip.compress(content, gzip_level, mtime=0)),
        "zstd_bytes": len(zstandard.ZstdCompressor(zstd_level).compress(content)),
    }


def _check_counts(content: bytes) -> None:
    """Refuses counts that the file has no room for, before a loop runs over them."""
    left = most = min(len(content) // TABLE_BYTES, MOST_TABLES)
    for count in _table_counts(schema.Model.GetRootAs(content, 0)):
        left -= count
        if left < 0:
            allows = "its size allows" if most < MOST_TABLES else f"{MOST_TABLES:,}, the most that are read"
            raise ValueError(f"it claims to hold more tables than {allows}")


def _table_counts(root: Any) -> Iterator[int]:
    """Gives the length of each vector of tables; whoever reads stops before the walk gets out of hand."""
    yield root.OperatorCodesLength()
    yield root.BuffersLength()
    yield root.MetadataLength()
    yield root.ExternalBufferGroupsLength()
    yield root.ExternalBuffersLength()
    yield root.SubgraphsLength()
    for number in range(root.SubgraphsLength()):
        graph = root.Subgraphs(number)
        yield graph.OperatorsLength()
        yield graph.TensorsLength()
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            yield tensor.VariantTensorsLength()
            sparsity = tensor.Sparsity()
            if sparsity is not None:
                yield sparsity.DimMetadataLength()
    yield root.SignatureDefsLength()
    for number in range(root.SignatureDefsLength()):
        yield root.SignatureDefs(number).InputsLength()
        yield root.SignatureDefs(number).OutputsLength()


class _Metered(bytes):
    """A file's bytes that texts can be taken from until these come to more than the file could hold."""

    _left: int | None = None

    def __getitem__(self, key: Any) -> Any:
        """Returns a part; the reader asks for texts this way, and for nothing else."""
        if isinstance(key, slice):
            if self._left is None:
                self._left = TEXT_SHARE * len(self) + FREE_BYTES
            self._left -= max(min(key.stop, len(self)) - key.start, 0)
            if self._left < 0:
                raise ValueError(f"its names come to more than a file of {len(self):,} bytes can hold")
        return super().__getitem__(key)


def _check_vectors(model: schema.ModelT, size: int) -> None:
    """Refuses vectors that come to more than the file could hold, before a loop runs over them."""
    most = VECTOR_SHARE * size + FREE_BYTES
    left, waiting = most, [model.operatorCodes, model.subgraphs, model.metadata, model.signatureDefs]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, np.ndarray):
            left -= thing.nbytes
            if left < 0:
                raise ValueError(f"its vectors come to more than the {most:,} bytes that a file of its size may hold")
        elif isinstance(thing, list):
            waiting += thing
        elif hasattr(thing, "__dict__"):
            waiting += vars(thing).values()


def _check_names(model: schema.ModelT, size: int) -> None:
    """Refuses names that come to more than the file could hold where each operator is called by its own."""
    left = TEXT_SHARE * size + FREE_BYTES
    for graph in model.subgraphs:
        names = [len(tensor.name) for tensor in graph.tensors]
        left -= sum(names[index] for index in itertools.chain(graph.inputs, graph.outputs))
        for operator in graph.operators:
            left -= len(model.operatorCodes[operator.opcodeIndex].customCode or b"")
            left -= names[operator.outputs[0]] if len(operator.outputs) else 0
    if left < 0:
        raise ValueError(f"the names of its operators come to more than a file of {size:,} bytes can hold")


def _complete(model: schema.ModelT, content: bytes) -> None:
    """Replaces what a file may leave out by empty values, so that nobody has to ask for None."""
    if model.version != SCHEMA_VERSION:
        raise ValueError(f"its schema version is {model.version}, {SCHEMA_VERSION} was expected")
    for field in ("operatorCodes", "subgraphs", "buffers", "metadata", "signatureDefs"):
        setattr(model, field, getattr(model, field) or [])
    model.description = model.description or b""
    for graph in model.subgraphs:
        for field in ("tensors", "operators"):
            setattr(graph, field, getattr(graph, field) or [])
        for owner in (graph, *graph.operators):
            owner.inputs, owner.outputs = _integers(owner.inputs), _integers(owner.outputs)
        graph.name = graph.name or b""
        for tensor in graph.tensors:
            tensor.name, tensor.shape = tensor.name or b"", _integers(tensor.shape)
    for signature in model.signatureDefs:
        signature.inputs, signature.outputs = signature.inputs or [], signature.outputs or []
        signature.signatureKey = signature.signatureKey or b""
    for buffer in model.buffers:
        if buffer.offset > 1:  # data behind the flatbuffer, as files of over 2 GiB have it (0 and 1 mean none)
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


def _integers(values: Any) -> NDArray[np.int32]:
    return np.zeros(0, np.int32) if values is None else np.asarray(values, np.int32)


def _check_references(model: schema.ModelT, *, finite: bool) -> None:
    if not model.subgraphs:
        raise ValueError("it holds no graph")
    for graph in model.subgraphs:
        tensors = len(graph.tensors)
        for tensor in graph.tensors:
            _within(tensor.buffer, len(model.buffers), "buffer")
            _check_tensor(tensor, finite=finite)
        for operator in graph.operators:
            _within(operator.opcodeIndex, len(model.operatorCodes), "operator code")
        for index in itertools.chain(graph.inputs, graph.outputs, *(op.outputs for op in graph.operators)):
            _within(index, tensors, "tensor")
        for index in itertools.chain(*(op.inputs for op in graph.operators)):
            _within(index, tensors, "tensor", absent=True)
    for entry in model.metadata:
        _within(entry.buffer, len(model.buffers), "buffer")


def _check_tensor(tensor: schema.TensorT, *, finite: bool) -> None:
    if len(tensor.shape) > MOST_AXES:
        raise ValueError(f"a tensor has {len(tensor.shape):,} axes, {MOST_AXES} at most were expected")
    if (tensor.shape < 0).any():
        raise ValueError(f"a tensor has the shape {tensor.shape.tolist()}")
    q = tensor.quantization
    if finite and q is not None and q.scale is not None and not np.isfinite(q.scale).all():
        raise ValueError("a tensor has a scale that is no finite number")


def _within(index: int, count: int, what: str, *, absent: bool = False) -> None:
    if not (-1 if absent else 0) <= index < count:
        raise ValueError(f"it refers to {what} {index} of {count}")
