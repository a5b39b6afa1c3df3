"""The last pass over a flatbuffer: the asked input and output type, short names, nothing stored twice."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError
from edgecompress.tflite.format.metadata import ModelNotes, append_files, attach_notes
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.format.sparse import encode_weights

#: Metadata the runtimes read; the rest of what converters leave is of no use to them.
KEPT_METADATA = frozenset({b"min_runtime_version"})
SIGNATURE = b"serving_default"
#: Hexadecimal digits of a model's version in its notes.
VERSION_DIGITS = 12
#: How litert-torch calls outputs that have no name of their own.
_NUMBERED = re.compile(rb"output(_\d+)?")
IO_TYPES = {
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "uint8": schema.TensorType.UINT8,
    "float32": schema.TensorType.FLOAT32,
}
#: Types of token numbers and the like, which are not quantized.
POSITIONS = frozenset({schema.TensorType.INT32, schema.TensorType.INT64})
#: What another type of input can be converted to and from, beside float32.
CONVERTIBLE = {schema.TensorType.INT8: ("uint8",), schema.TensorType.INT16: ()}


def finish(
    model: schema.ModelT,
    labels: list[str],
    io: str,
    notes: ModelNotes | None = None,
    files: Mapping[str, bytes] | None = None,
    *,
    sparse: bool = False,
) -> tuple[bytes, list[str]]:
    """Returns the flatbuffer to ship and the layer name of each of its operators.

    Args:
        model: Changed in place.
        labels: Layer name per operator; activations are named by them.
        io: `int8`, `uint8` or `float32`: type of the input and the output.
        notes: What the ends mean, for mobile libraries; their version becomes the start of the hash of the flatbuffer
            without them, so it changes with the model only. None for a flatbuffer without TFLite metadata.
        files: What the notes refer to, such as labels.txt.
        sparse: Whether convolutions' weights are stored without their zeros where that takes less room.

    Raises:
        ModelError: The model's inputs cannot be turned into `io`.
    """
    labels = _convert_io(model, list(labels), io)
    if sparse:
        labels = encode_weights(model, labels)
    _rename(model, labels)
    _drop_metadata(model)
    drop_unused(model)
    _compact_buffers(model)
    content = pack(model)
    if notes is not None:
        version = hashlib.sha256(content).hexdigest()[:VERSION_DIGITS]
        attach_notes(model, replace(notes, version=version))
        content = append_files(pack(model), files or {})
    return content, labels


def _convert_io(model: schema.ModelT, labels: list[str], io: str) -> list[str]:
    graph = model.subgraphs[0]
    wanted = IO_TYPES[io]
    # The outputs of a streamed step beside the first are its states, which stay; those of other networks are answers.
    answers = len(graph.outputs) if len(graph.inputs) == 1 else 1
    for end, place in (("input", 0), *(("output", place) for place in range(answers))):
        numbers = graph.inputs if end == "input" else graph.outputs
        inner = int(numbers[place])
        tensor = graph.tensors[inner]
        if tensor.type == wanted or tensor.type in POSITIONS:
            continue
        if io not in (*CONVERTIBLE.get(tensor.type, ("",)), "float32") or tensor.type not in CONVERTIBLE:
            here = next((name for name, number in IO_TYPES.items() if number == tensor.type), "of another type")
            raise ModelError(f"the {end} of this model is {here}, so it cannot become {io} (export.io)")
        outer = _outer_tensor(tensor, wanted, end)
        graph.tensors.append(outer)
        number = len(graph.tensors) - 1
        operator = schema.OperatorT()
        to_float = wanted == schema.TensorType.FLOAT32 and end == "output"
        code = schema.BuiltinOperator.DEQUANTIZE if to_float else schema.BuiltinOperator.QUANTIZE
        operator.opcodeIndex = operator_code(model, code)
        operator.inputs = np.array([inner if end == "output" else number], np.int32)
        operator.outputs = np.array([number if end == "output" else inner], np.int32)
        operator.builtinOptionsType = 0
        if end == "input":
            graph.operators.insert(0, operator)
            labels.insert(0, "input")
        else:
            graph.operators.append(operator)
            labels.append("output")
        changed = np.array(numbers, np.int32)
        changed[place] = number
        if end == "input":
            graph.inputs = changed
        else:
            graph.outputs = changed
        for signature in model.signatureDefs or []:
            for entry in signature.inputs if end == "input" else signature.outputs:
                if entry.tensorIndex == inner:
                    entry.tensorIndex = number
    return labels


def _outer_tensor(inner: schema.TensorT, wanted: int, end: str) -> schema.TensorT:
    outer = schema.TensorT()
    outer.shape, outer.type, outer.buffer, outer.name, outer.hasRank = inner.shape, wanted, 0, end.encode(), True
    if wanted == schema.TensorType.UINT8:  # the same grid, 128 higher
        q = schema.QuantizationParametersT()
        q.scale = np.asarray(inner.quantization.scale, np.float32)
        q.zeroPoint = np.asarray(inner.quantization.zeroPoint, np.int64) + 128
        outer.quantization = q
    return outer


def operator_code(model: schema.ModelT, builtin: int) -> int:
    """Returns the number of an operator's code in a flatbuffer, which gains one where there is none."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2 if builtin == schema.BuiltinOperator.DEQUANTIZE else 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _rename(model: schema.ModelT, labels: list[str]) -> None:
    """Names activations after their layer; constants, which nothing looks up by name, get none."""
    graph = model.subgraphs[0]
    names: dict[int, bytes] = {}
    taken: set[bytes] = set()
    for operator, label in zip(graph.operators, labels, strict=True):
        for number in operator.outputs:
            name = label.encode()
            for suffix in itertools.count(2):
                if name not in taken:
                    break
                name = f"{label}:{suffix}".encode()
            taken.add(name)
            names[int(number)] = name
    for numbers, end in ((graph.inputs, "input"), (graph.outputs, "output")):
        names |= {int(n): (f"{end}_{place}" if place else end).encode() for place, n in enumerate(numbers)}
    for number, tensor in enumerate(graph.tensors):
        tensor.name = names.get(number, b"")
    graph.name = b"main"
    for signature in model.signatureDefs or []:
        signature.signatureKey = SIGNATURE
        for entry in (*signature.inputs, *signature.outputs):
            if entry in signature.inputs or _NUMBERED.fullmatch(bytes(entry.name)):  # others have a name of their own
                entry.name = names[int(entry.tensorIndex)]


def _drop_metadata(model: schema.ModelT) -> None:
    model.metadata = [entry for entry in model.metadata or [] if entry.name in KEPT_METADATA]
    model.metadataBuffer = None
    model.description = b""


def drop_unused(model: schema.ModelT) -> None:
    """Removes tensors that no operator reads or writes, and operator codes that no operator has."""
    for position, graph in enumerate(model.subgraphs):
        signatures = [s for s in model.signatureDefs or [] if s.subgraphIndex == position]
        _drop_unused_tensors(graph, [entry for s in signatures for entry in (*s.inputs, *s.outputs)])
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    codes = sorted({operator.opcodeIndex for operator in operators})
    model.operatorCodes = [model.operatorCodes[number] for number in codes]
    for operator in operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)


def _drop_unused_tensors(graph: schema.SubGraphT, entries: list[schema.TensorMapT]) -> None:
    holders = [(holder, field) for holder in (graph, *graph.operators) for field in ("inputs", "outputs")]
    holders += [(operator, "intermediates") for operator in graph.operators if operator.intermediates is not None]
    kept = sorted({int(n) for holder, field in holders for n in getattr(holder, field)} - {-1})
    place = {number: position for position, number in enumerate(kept)} | {-1: -1}
    graph.tensors = [graph.tensors[number] for number in kept]
    for holder, field in holders:
        setattr(holder, field, np.array([place[int(n)] for n in getattr(holder, field)], np.int32))
    for entry in entries:
        entry.tensorIndex = place[entry.tensorIndex]


def _compact_buffers(model: schema.ModelT) -> None:
    """Keeps one buffer per content and none that nothing refers to; buffer 0 stays the empty one."""
    kept: list[schema.BufferT] = [schema.BufferT()]
    by_content: dict[bytes, int] = {}
    renumbered: dict[int, int] = {}

    def keep(number: int) -> int:
        if number not in renumbered:
            data = model.buffers[number].data
            content = b"" if data is None else bytes(data)
            if not content:
                renumbered[number] = 0
            else:
                if content not in by_content:
                    buffer = schema.BufferT()
                    buffer.data = np.frombuffer(content, np.uint8)
                    kept.append(buffer)
                    by_content[content] = len(kept) - 1
                renumbered[number] = by_content[content]
        return renumbered[number]

    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = keep(tensor.buffer)
    for entry in model.metadata or []:
        entry.buffer = keep(entry.buffer)
    model.buffers = kept
