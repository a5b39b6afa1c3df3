"""What a flatbuffer is made of: operators, types, and everything that is not INT8 though it should be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError
from edgecompress.tflite.format.views import WEIGHTED_OPS, GraphView, OpInfo, TensorInfo, graph_views
from edgecompress.wording import counted

#: Types of biases, shapes, axes and paddings, and of 4-bit weights: as constants they belong to an INT8 model.
_CONSTANT_TYPES = frozenset({"int32", "int64", "bool", "int4"})
#: Types of positions, sizes and token numbers. Operators that look something up read them, those that find something
#: or tell a shape write them; whatever is computed from them alone is of the same kind.
_INDEX_TYPES = frozenset({"int32", "int64"})
_INDEX_OPS = frozenset(
    {"ARG_MAX", "ARG_MIN", "EMBEDDING_LOOKUP", "GATHER", "GATHER_ND", "SCATTER_ND", "SHAPE", "TOPK_V2"}
)


@dataclass(frozen=True)
class OpCount:
    """One kind of operator.

    Attributes:
        count: How often it occurs.
        dtypes: Types of its activations (`int8`; `float32/int8` where they differ) -> how often.
    """

    count: int
    dtypes: dict[str, int]


@dataclass(frozen=True)
class NotInt8:
    """One tensor that keeps a model from being INT8 throughout.

    Attributes:
        subgraph: Where it is; 0 is the model's own graph.
        op_index: The operator that reads or writes it, in the order of execution.
        op: That operator's name.
        layer: That operator's layer.
        tensor: The tensor's name.
        dtype: Its type.
        why: What it is, in words.
    """

    subgraph: int
    op_index: int
    op: str
    layer: str
    tensor: str
    dtype: str
    why: str


@dataclass(frozen=True)
class Census:
    """Operators and types of a flatbuffer.

    Attributes:
        ops: Operator name -> its count, the most frequent first.
        tensors: Type -> number of tensors that operators read or write.
        not_int8: What is not INT8, biases and shape constants aside, though it should be; empty for an INT8 model.
        allowed: What is not INT8 either, but may be.
    """

    ops: dict[str, OpCount]
    tensors: dict[str, int]
    not_int8: tuple[NotInt8, ...]
    allowed: tuple[NotInt8, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain JSON values."""
        listed = {name: [asdict(item) for item in getattr(self, name)] for name in ("not_int8", "allowed")}
        return {**asdict(self), **listed}


def census(
    model: schema.ModelT,
    *,
    io: str = "int8",
    labels: Sequence[str] | None = None,
    activations: str = "int8",
    allow: Collection[str] = (),
    floating: Mapping[int, str] | None = None,
) -> Census:
    """Returns the operators and types of a flatbuffer.

    Args:
        model: As `read_model` gave it.
        io: Type of input and output the model is meant to have: `int8`, `uint8` or `float32`. Where it is not `int8`,
            the operators at the border that convert from it and to it are as they should be.
        labels: Layer name of each operator of the first graph; default: what its tensors' names tell.
        activations: What they are meant to be: `int8`, `int16`, or `dynamic` and `float32`, with which they are
            float32 and only weights have to be integers.
        allow: Wider types that operators may have all the same: `int16`; `float32`, and whole numbers of 32 or 64 bits
            with it, which lose nothing either.
        floating: Positions of operators of the first graph that may be float32 -> the recipe's key that says so.

    Raises:
        ModelError: There is not one label per operator.
    """
    views = graph_views(model)
    names = list(labels) if labels is not None else layer_names(views[0])
    keys = floating or {}
    if len(names) != len(views[0].ops):
        given, held = counted(len(names), "layer name"), counted(len(views[0].ops), "operator")
        raise ModelError(f"{given} for a flatbuffer of {held}: one for each is expected")
    kinds: dict[str, Counter[str]] = {}
    tensors: Counter[str] = Counter()
    found: list[NotInt8] = []
    allowed: list[NotInt8] = []
    for number, view in enumerate(views):
        here = names if number == 0 else layer_names(view)
        used = {index for op in view.ops for index in (*op.inputs, *op.outputs) if index >= 0}
        tensors.update(view.tensors[index].dtype for index in used)
        border = {*view.inputs, *view.outputs} if number == 0 and io != "int8" else set[int]()
        indices = _indices(view)
        reported: set[int] = set()
        for op in view.ops:
            kinds.setdefault(op.op, Counter())[activation_dtypes(view, op)] += 1
            for tensor, fault in _faults(view, op, io, border, indices):
                if tensor.index not in reported:  # an activation is named once, where it is made
                    reported.add(tensor.index)
                    free = allowance(tensor.dtype) in allow or _as_meant(op, tensor, activations)
                    key = keys.get(op.index) if number == 0 and tensor.dtype == "float32" else None
                    free, why = free or key is not None, fault if key is None else f"{key}: {fault}"
                    item = NotInt8(number, op.index, op.op, here[op.index], tensor.name, tensor.dtype, why)
                    (allowed if free else found).append(item)
    ops = {name: OpCount(sum(counts.values()), dict(sorted(counts.items()))) for name, counts in kinds.items()}
    ordered = dict(sorted(ops.items(), key=lambda item: (-item[1].count, item[0])))
    return Census(ordered, dict(sorted(tensors.items())), tuple(found), tuple(allowed))


def allowance(dtype: str) -> str:
    """Returns the type that allows for one that operators compute in: whole numbers go with floats."""
    return "float32" if dtype in _INDEX_TYPES else dtype


def _as_meant(op: OpInfo, tensor: TensorInfo, activations: str) -> bool:
    """Returns whether a tensor that is not INT8 is what a model with such activations has."""
    if activations == "int16":
        return tensor.dtype == "int16"
    if activations not in ("dynamic", "float32") or tensor.dtype != "float32":
        return False
    weights = op.inputs[1] if op.op in WEIGHTED_OPS and len(op.inputs) > 1 else None
    return not tensor.is_constant or tensor.index != weights


def activation_dtypes(graph: GraphView, op: OpInfo) -> str:
    """Returns the types of what an operator reads and writes, constants aside: `int8`, or `float32/int8`."""
    read = [graph.tensors[index] for index in op.inputs if index >= 0]
    dtypes = [tensor.dtype for tensor in read if not tensor.is_constant]
    dtypes += [graph.tensors[index].dtype for index in op.outputs]
    return "/".join(dict.fromkeys(dtypes))


def _indices(graph: GraphView) -> set[int]:
    """Returns the tensors that hold positions, sizes or token numbers."""
    found: set[int] = set()
    for op in graph.ops:
        read = [index for index in op.inputs if index >= 0 and not graph.tensors[index].is_constant]
        if op.op in _INDEX_OPS:
            concerned = [*read, *op.outputs]
        elif read and found.issuperset(read):
            concerned = [*op.outputs]
        else:
            continue
        found.update(index for index in concerned if graph.tensors[index].dtype in _INDEX_TYPES)
    for op in reversed(graph.ops):  # what becomes a position further on is one already
        if op.outputs and found.issuperset(op.outputs):
            found.update(n for n in op.inputs if n >= 0 and graph.tensors[n].dtype in _INDEX_TYPES)
    return found


def _faults(graph: GraphView, op: OpInfo, io: str, border: set[int], indices: set[int]) -> list[tuple[TensorInfo, str]]:
    converts = op.op in {"QUANTIZE", "DEQUANTIZE"}
    found = []
    for place, index in enumerate((*op.inputs, *op.outputs)):
        if index < 0:
            continue
        tensor = graph.tensors[index]
        if tensor.dtype in ("int8", "bool") or (converts and index in border and tensor.dtype == io):
            continue
        if tensor.is_constant:
            if tensor.dtype not in _CONSTANT_TYPES:
                found.append((tensor, f"its constants are {tensor.dtype}"))
        elif index not in indices:
            verb = "reads" if place < len(op.inputs) else "writes"
            found.append((tensor, f"it {verb} {tensor.dtype} values"))
    return found


def layer_names(graph: GraphView) -> list[str]:
    """Returns a unique layer name per operator, from the name of what it writes: a repeated one gets `#2`, `#3`, ...

    Where litert-torch wrote the names, operators that carry no weights are called by their module and their own name
    (`stack2.add`), as they are in flatbuffers that `edgecompress run` makes.
    """
    taken: Counter[str] = Counter()
    names = []
    for op in graph.ops:
        written = graph.tensors[op.outputs[0]].name if op.outputs else ""
        name = layer_name(written) or f"{op.op.lower()}_{op.index}"
        if name != written and "/" in written and op.op not in WEIGHTED_OPS:
            name = op.op.lower() if name == ROOT else f"{name}.{op.op.lower()}"
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name}#{taken[name]}")
    return names


#: What the model itself is called where no layer within it can be named.
ROOT = "model"
#: Modules that multiply by a matrix; of the modules in a fused operator they name the layer.
_COMPUTE_CLASSES = re.compile(r"\.(?:\w*Conv\w*|\w*Linear|\w*Embedding)_[^/.]*$")
_ORDINAL = re.compile(r";\d*$")


def layer_name(tensor_name: str) -> str:
    """Returns the dotted module path in a tensor name that litert-torch wrote; another name comes back as it is.

    A segment of such a name is `package.module.Class_attribute`. Without the module at hand, the class is taken to end
    before the first part that starts with a small letter or a digit, which holds for names that follow PEP 8.
    (`edgecompress.tflite.format.labels` knows the module and does not have to guess.)
    """
    paths = [_ORDINAL.sub("", part) for part in tensor_name.split(";;")]
    paths = [path for path in paths if "/" in path and "." in path.split("/")[0]]
    if not paths:
        whole = _ORDINAL.sub("", tensor_name)
        return ROOT if "." in whole and _ORDINAL.search(tensor_name) else whole
    matrix = [path for path in paths if _COMPUTE_CLASSES.search(path)]
    chosen = max(matrix or paths, key=lambda path: path.count("/"))
    first, *segments = chosen.split("/")
    if first.endswith("IOWrapper"):
        segments = segments[1:]  # the wrapped model itself
    return ".".join(_attribute(segment) for segment in segments) or ROOT


def _attribute(segment: str) -> str:
    last = segment.rpartition(".")[2]
    parts = last.split("_")
    for place in range(1, len(parts)):
        if parts[place] and not parts[place][0].isupper():
            return "_".join(parts[place:])
    return "_".join(parts[1:]) or last
