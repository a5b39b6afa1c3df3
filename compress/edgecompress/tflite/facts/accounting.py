"""Where a flatbuffer's bytes go, and how much of it is overhead: neither parameters nor scales nor metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.tflite.format.flatbuffer import read_content, read_model, sizes
from edgecompress.tflite.format.metadata_reader import archive_bytes
from edgecompress.tflite.format.sparse_reader import index_vectors
from edgecompress.tflite.format.views import GraphView, graph_views

#: What a flatbuffer is for, and what it is described by. All other parts are overhead.
USEFUL = ("weights", "sparse_indices", "biases", "scales", "zero_vectors", "metadata")
OVERHEAD = ("constants", "zero_points", "names", "structure")
#: What the overhead of a flatbuffer may come to.
FIXED_ALLOWANCE_BYTES = 8 * 1024
OPERATOR_ALLOWANCE_BYTES = 120
TENSOR_ALLOWANCE_BYTES = 48
#: Constants of these types are shapes, axes and paddings, not parameters.
_SHAPE_TYPES = frozenset({"int32", "int64", "bool"})


def account(path: Path) -> dict[str, Any]:
    """Returns the sizes of a file as the report has them.

    Keys: those of `packed_sizes`, `metadata_bytes`, `overhead_bytes`, `overhead_allowance_bytes`, and `parts` (see
    `breakdown`).

    Raises:
        ResourceError: It cannot be read, or is no flatbuffer.
    """
    content = read_content(path)
    model = read_model(content)
    parts = breakdown(model, content)
    return {
        **sizes(path),
        "metadata_bytes": parts["metadata"],
        "overhead_bytes": overhead(parts),
        "overhead_allowance_bytes": allowance(model),
        "parts": parts,
    }


def overhead(parts: Mapping[str, int]) -> int:
    """Returns the bytes beside weights, their indices, biases, scales, one zero vector per length, and metadata."""
    return sum(parts[name] for name in OVERHEAD)


def allowance(model: schema.ModelT) -> int:
    """Returns what the overhead may come to: a fixed part, and a share for each operator and tensor."""
    operators = sum(len(graph.operators) for graph in model.subgraphs)
    tensors = sum(len(graph.tensors) for graph in model.subgraphs)
    return FIXED_ALLOWANCE_BYTES + OPERATOR_ALLOWANCE_BYTES * operators + TENSOR_ALLOWANCE_BYTES * tensors


def breakdown(model: schema.ModelT, content: bytes) -> dict[str, int]:
    """Returns where a file's bytes go; the parts add up to its size.

    Keys: `weights` (and other parameters), `sparse_indices` (places of the non-zero ones, in TFLite's sparse encoding),
    `biases`, `scales`, `zero_vectors` (zero points that are all zero, one per length), `metadata` (entries, and the
    archive of associated files), `constants` (shapes, axes, paddings),
    `zero_points` (the others, and ranges), `names`, and `structure` (tables, offsets, padding, and vectors of zeros
    that are stored again: the rest). What the file stores once counts once.

    Args:
        model: As `read_model` gave it; one that was changed since is counted as if nothing were shared.
        content: The file.
    """
    parts = dict.fromkeys((*USEFUL, *OVERHEAD), 0)
    roles = _buffer_roles(model)
    seen: set[tuple[int, int]] = set()
    for number, buffer in enumerate(model.buffers):
        parts[roles.get(number, "constants")] += _stored(buffer.data, seen)
    zeros: set[int] = set()
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        parts["sparse_indices"] += sum(_stored(vector, seen) for vector in index_vectors(tensor))
        q = tensor.quantization
        if q is None:
            continue
        parts["scales"] += _stored(q.scale, seen)
        parts["zero_points"] += sum(_stored(values, seen) for values in (q.min, q.max))
        size = _stored(q.zeroPoint, seen)
        if not np.any(q.zeroPoint) and size:
            again = size in zeros
            zeros.add(size)
            parts["structure" if again else "zero_vectors"] += size
        else:
            parts["zero_points"] += size
    parts["names"] = sum(len(_encoded(name)) for name in _names(model))
    parts["metadata"] += sum(len(_encoded(entry.name or b"")) for entry in model.metadata)
    rest = len(content) - sum(parts.values())
    archive = max(0, min(archive_bytes(content), rest))
    parts["metadata"] += archive
    parts["structure"] += rest - archive
    return parts


def _buffer_roles(model: schema.ModelT) -> dict[int, str]:
    """Returns what each buffer is for; a tensor's use counts more than an entry's, a bias more than a constant."""
    roles: dict[int, str] = {entry.buffer: "metadata" for entry in model.metadata}
    for graph, view in zip(model.subgraphs, graph_views(model), strict=True):
        for tensor, info in zip(graph.tensors, view.tensors, strict=True):
            roles.setdefault(tensor.buffer, "constants" if info.dtype in _SHAPE_TYPES else "weights")
        for index, role in _parameters(view):
            roles[graph.tensors[index].buffer] = role
    return roles


def _parameters(view: GraphView) -> Iterator[tuple[int, str]]:
    for op in view.ops:
        for role, found in (("biases", view.bias(op)), ("weights", view.weight(op))):
            if found is not None:
                yield found.index, role


def _stored(vector: NDArray[Any] | list[Any] | None, seen: set[tuple[int, int]]) -> int:
    """Returns the bytes of a vector, 0 if it lies where an earlier one does (views of one file know their place)."""
    if vector is None or len(vector) == 0:
        return 0
    array = np.asarray(vector)
    place = (int(array.__array_interface__["data"][0]), array.nbytes)
    if isinstance(vector, np.ndarray):
        if place in seen:
            return 0
        seen.add(place)
    return array.nbytes


def _encoded(name: bytes | str) -> bytes:
    return name.encode() if isinstance(name, str) else name


def _names(model: schema.ModelT) -> Iterator[bytes | str]:
    yield model.description
    for graph in model.subgraphs:
        yield graph.name
        yield from (tensor.name for tensor in graph.tensors)
    for signature in model.signatureDefs:
        yield signature.signatureKey
        yield from (entry.name or b"" for entry in (*signature.inputs, *signature.outputs))
    yield from (code.customCode or b"" for code in model.operatorCodes)
