"""Everything that can be told about a flatbuffer without its data, as one document of plain JSON values."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError, ResourceError
from edgecompress.tflite.facts.accounting import allowance, breakdown, overhead
from edgecompress.tflite.facts.census import activation_dtypes, census, layer_names
from edgecompress.tflite.facts.weights import count_zeros, macs
from edgecompress.tflite.format.flatbuffer import read_content, read_model, sizes
from edgecompress.tflite.format.metadata_reader import labels_of, read_files, read_notes
from edgecompress.tflite.format.views import GraphView, OpInfo, TensorInfo, graph_views, least_bytes, text
from edgecompress.tflite.runtime.child import call
from edgecompress.tflite.runtime.memory import require_room

#: tflite-micro may take this much beside the activations; it tells what it took of it.
ARENA_RESERVE_BYTES = 16 * 1024**2
ARENA_LIMIT_BYTES = 512 * 1024**2
#: Weights that are looked through, as bytes of dense tensors; a file may name the same ones again and again.
LOOKED_AT_BYTES, TIMES_THE_FILE = 1024**3, 64


def inspect_flatbuffer(path: Path, *, run: bool = True) -> dict[str, Any]:
    """Returns what a flatbuffer holds and needs.

    Keys: `file`, those of `packed_sizes`, `sha256`, `description`, `signatures`, `metadata` (names of its entries),
    `tflite_metadata` (see `told_by_metadata`), `subgraphs`; `inputs` and `outputs` with how to feed and read them;
    `ops`, `tensors`, `not_int8` (see `Census`); `layers`, one entry per operator of the first graph; `macs`; `weights`
    (count, zeros, share); `quantization` (how many tensors have which kind); `bytes` (see `breakdown`),
    `metadata_bytes`, `overhead_bytes` and `overhead_allowance_bytes`; `runs` and `arena`: whether LiteRT runs it, and
    the memory tflite-micro takes.

    Args:
        path: The file.
        run: Whether to run it, in child processes: once with LiteRT and once with tflite-micro. Without, `runs` and
            `arena` are None.

    Raises:
        ResourceError: The file cannot be read, is no flatbuffer, or is damaged.
    """
    content = read_content(path)
    model = read_model(content, name=str(path))
    views = graph_views(model)
    main = views[0]
    inputs = [_end(main.tensors[index], reads=False) for index in main.inputs]
    io = inputs[0]["dtype"] if inputs and inputs[0]["dtype"] in {"uint8", "float32"} else "int8"
    facts = _WeightFacts(model, len(content))
    layers = [_layer(main, op, name, facts) for op, name in zip(main.ops, layer_names(main), strict=True)]
    counted = [layer["sparsity"] for layer in layers if layer["sparsity"] is not None]
    parts = breakdown(model, content)
    zeros, total = sum(entry["zeros"] for entry in counted), sum(entry["weights"] for entry in counted)
    return {
        "file": str(path),
        **sizes(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "description": text(model.description),
        "signatures": [text(signature.signatureKey) for signature in model.signatureDefs],
        "metadata": [text(entry.name) for entry in model.metadata],
        "tflite_metadata": told_by_metadata(model, content),
        "subgraphs": len(views),
        "inputs": inputs,
        "outputs": [_end(main.tensors[index], reads=True) for index in main.outputs],
        **census(model, io=io).as_dict(),
        "layers": layers,
        "macs": sum(layer["macs"] or 0 for layer in layers),
        "weights": {"count": total, "zeros": zeros, "share": zeros / total if total else 0.0},
        "quantization": _quantization(main),
        "bytes": parts,
        "metadata_bytes": parts["metadata"],
        "overhead_bytes": overhead(parts),
        "overhead_allowance_bytes": allowance(model),
        "runs": try_litert(path, least_bytes(views)) if run else None,
        "arena": estimate_arena(path, main, least_bytes(views)) if run else None,
    }


def told_by_metadata(model: schema.ModelT, content: bytes) -> dict[str, Any] | None:
    """Returns what the TFLite metadata tells, None where there is none.

    Keys: `problem`, why it cannot be read (the others are missing then) or None; those of `ModelNotes`; `labels`, the
    classes in the order of the outputs, or None; `archive`, the files behind the flatbuffer and their sizes in bytes.
    """
    try:
        notes = read_notes(model)
        if notes is None:
            return None
        files = read_files(content)
        labels = labels_of(notes, files)
    except ResourceError as error:  # the runtimes do not look at it: everything else can still be told
        return {"problem": str(error)}
    archive = {name: len(data) for name, data in files.items()}
    plain: dict[str, Any] = json.loads(json.dumps(asdict(notes)))
    return {"problem": None, **plain, "labels": labels, "archive": archive}


def try_litert(path: Path, needed: int = 0) -> dict[str, Any]:
    """Returns whether LiteRT runs a file once, `works`, and if not why, `reason`; a crash stays in a child process.

    Args:
        path: The file.
        needed: Memory that its tensors take at least (`least_bytes`).
    """
    try:
        allowed = require_room(path, needed)
        call("invoke", {"path": str(path.absolute()), "runtime": "litert"}, memory_bytes=allowed)
    except (ModelError, ResourceError) as error:
        return {"works": False, "reason": str(error).removeprefix(f"{path.absolute()}: ")}
    return {"works": True, "reason": ""}


def estimate_arena(path: Path, graph: GraphView, needed: int = 0) -> dict[str, Any]:
    """Returns the memory tflite-micro takes for a file (see `Arena`), or None for each figure and why, `reason`."""
    activations = sum(tensor.bytes_in_memory for tensor in graph.tensors if not tensor.is_constant)
    room = min(2 * activations + ARENA_RESERVE_BYTES, ARENA_LIMIT_BYTES)
    try:
        allowed = require_room(path, needed)
        figures = call("arena", {"path": str(path.absolute()), "arena_bytes": room}, memory_bytes=allowed)
    except (ModelError, ResourceError) as error:
        unknown = dict.fromkeys(("arena_bytes", "activation_bytes", "persistent_bytes"))
        return {**unknown, "reason": str(error)}
    return {**figures, "reason": ""}


def _end(tensor: TensorInfo, *, reads: bool) -> dict[str, Any]:
    scale = tensor.scale[0] if len(tensor.scale) == 1 else None
    zero_point = tensor.zero_point[0] if len(tensor.zero_point) == 1 else 0
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": scale,
        "zero_point": zero_point if scale else None,
        "how": _how(tensor.dtype, scale, zero_point, reads=reads),
    }


def _how(dtype: str, scale: float | None, zero_point: int, *, reads: bool) -> str:
    """Returns in words how a real number becomes a value of an input, or a value of an output a real number."""
    if not scale or dtype not in {"int8", "uint8", "int16"}:
        return "real numbers as they are" if dtype.startswith("float") else f"{dtype} values as they are"
    sign = "-" if zero_point < 0 else "+"
    if reads:
        offset = f"({dtype} {'+' if zero_point < 0 else '-'} {abs(zero_point)})" if zero_point else dtype
        return f"real = {scale:.9g} * {offset}"
    limits = np.iinfo(dtype)
    offset = f" {sign} {abs(zero_point)}" if zero_point else ""
    return f"{dtype} = round(real / {scale:.9g}){offset}, clipped to {limits.min}..{limits.max}"


def _layer(graph: GraphView, op: OpInfo, name: str, facts: _WeightFacts) -> dict[str, Any]:
    weight = graph.weight(op)
    output = graph.tensors[op.outputs[0]] if op.outputs else None
    constants = {index for index in op.inputs if index >= 0 and graph.tensors[index].is_constant}
    return {
        "index": op.index,
        "layer": name,
        "op": op.op,
        "dtypes": activation_dtypes(graph, op),
        "output_shape": list(output.shape) if output else [],
        "output_scale": output.scale[0] if output and len(output.scale) == 1 else None,
        "output_zero_point": output.zero_point[0] if output and len(output.zero_point) == 1 else None,
        "macs": macs(graph, op),
        "constant_bytes": sum(graph.tensors[index].buffer_bytes for index in constants),
        "weight_dtype": weight.dtype if weight else None,
        "weight_shape": list(weight.shape) if weight else None,
        "weight_quantization": facts.parameters(weight) if weight else None,
        "sparsity": facts.sparsity(op, weight) if weight else None,
    }


class _WeightFacts:
    """What the weights of the first graph are like; each tensor is looked through once, however many operators use it.

    The dense bytes of all of them are limited: tensors may share what is stored.
    """

    def __init__(self, model: schema.ModelT, size: int) -> None:
        self._model, self._left = model, max(LOOKED_AT_BYTES, TIMES_THE_FILE * size)
        self._sparsity: dict[int, dict[str, Any] | None] = {}
        self._parameters: dict[int, dict[str, Any] | None] = {}

    def sparsity(self, op: OpInfo, weight: TensorInfo) -> dict[str, Any] | None:
        if weight.index not in self._sparsity:
            self._left -= weight.bytes_in_memory
            self._sparsity[weight.index] = self._count(op, weight) if self._left >= 0 else None
        return self._sparsity[weight.index]

    def _count(self, op: OpInfo, weight: TensorInfo) -> dict[str, Any] | None:
        try:
            found = count_zeros(self._model, 0, op, weight)
        except ResourceError:  # a format that cannot be read tells nothing; the layer is listed without
            return None
        return {"zeros": found.zeros, "weights": found.total, "share": found.share}

    def parameters(self, weight: TensorInfo) -> dict[str, Any] | None:
        if weight.index not in self._parameters:
            self._parameters[weight.index] = _parameters(weight)
        return self._parameters[weight.index]


def _parameters(tensor: TensorInfo) -> dict[str, Any] | None:
    if not tensor.scale:
        return None
    return {
        "kind": _kind(tensor),
        "scales": len(tensor.scale),
        "least_scale": min(tensor.scale),
        "greatest_scale": max(tensor.scale),
        "symmetric": not any(tensor.zero_point),
    }


def _kind(tensor: TensorInfo) -> str:
    return "none" if not tensor.scale else "per tensor" if len(tensor.scale) == 1 else "per channel"


def _quantization(graph: GraphView) -> dict[str, Any]:
    used = sorted({index for op in graph.ops for index in (*op.inputs, *op.outputs) if index >= 0})
    tensors = [graph.tensors[index] for index in used]
    kinds = [_kind(tensor) for tensor in tensors]
    scales = [scale for t in tensors if not t.is_constant for scale in t.scale if math.isfinite(scale)]
    return {
        "per_tensor": kinds.count("per tensor"),
        "per_channel": kinds.count("per channel"),
        "none": kinds.count("none"),
        "least_activation_scale": min(scales, default=None),
        "greatest_activation_scale": max(scales, default=None),
    }
