"""Layer names: which torch module each operator of a flatbuffer comes from.

litert-torch writes the path of torch modules into tensor names, one segment `CLASS_ATTRIBUTE` a module, joined by `/`;
an operator that fuses several modules carries several paths, joined by `;;`. With the module at hand every path is
known exactly, so nothing is matched by order or by guessing where a class name ends. Modules that are not called
themselves (a `ModuleList`, a `Sequential` that is iterated over) are missing from the written paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.models.conversion import converted_form

_WRAPPER = re.compile(r"^[\w.]+\.(?:ChannelLastIO|IO)Wrapper/")
_CODES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def module_paths(module: nn.Module) -> dict[str, str]:
    """Returns the path litert-torch writes for each submodule (the root's own segment left out) -> its dotted name."""
    paths: dict[str, str] = {}

    def visit(parent: nn.Module, written: str, dotted: str) -> None:
        for name, child in parent.named_children():
            kind = type(child)
            here = f"{written}/{kind.__module__}.{kind.__qualname__}_{name}".lstrip("/")
            there = f"{dotted}.{name}".lstrip(".")
            paths[here] = there
            visit(child, here, there)

    visit(module, "", "")
    return paths


def operator_labels(model: schema.ModelT, module: nn.Module) -> list[str]:
    """Returns a unique layer name for each operator of a converted module, in the flatbuffer's order.

    A convolution or linear layer gives its own path (`stack2.conv1`); other operators that of the module they are in
    and their own name (`stack2.add`). What expands a layer's weights belongs to the layer (`stack2.conv1.dequantize`).
    """
    module = converted_form(module)
    known = _Paths(module_paths(module))
    weighted = {name for name, child in module.named_modules() if _has_matrix(child)}
    leaves = {name for name, child in module.named_modules() if not any(True for _ in child.children())}
    graph = model.subgraphs[0]
    names = [_name(model, operator) for operator in graph.operators]
    layers = {
        int(operator.inputs[1]): operator
        for operator, op in zip(graph.operators, names, strict=True)
        if op in _MATRIX_OPS and len(operator.inputs) > 1
    }

    def called(operator: Any, op: str) -> str:
        layer = layers.get(int(operator.outputs[0])) if op == "dequantize" else None
        if layer is not None:
            return f"{called(layer, _name(model, layer))}.{op}"
        found = [known.find(part) for part in _parts(graph, operator.outputs)]
        if op in _MATRIX_OPS and not weighted.intersection(path for path in found if path):
            # The model's output is named after the signature: the weight still carries the layer's path.
            found += [known.find(part) for part in _parts(graph, operator.inputs[1:])]
        return _choose([path for path in found if path is not None], weighted, leaves, op)

    taken: dict[str, int] = {}
    labels = []
    for operator, op in zip(graph.operators, names, strict=True):
        label = called(operator, op)
        taken[label] = taken.get(label, 0) + 1
        labels.append(label if taken[label] == 1 else f"{label}#{taken[label]}")
    return labels


def _name(model: schema.ModelT, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    return str(_CODES.get(max(int(code.builtinCode or 0), int(code.deprecatedBuiltinCode or 0)), "CUSTOM")).lower()


def _parts(graph: Any, numbers: Iterable[int]) -> Iterable[str]:
    for number in numbers:
        if number < 0:
            continue
        name = graph.tensors[number].name.decode("utf-8", "replace")
        for part in name.split(";;"):
            yield re.sub(r";\d*$", "", part)


class _Paths:
    """Looks up the modules that written paths lead to."""

    def __init__(self, known: dict[str, str]) -> None:
        self._known = known
        self._ends: dict[str, list[str]] = {}
        for path in known:
            self._ends.setdefault(path.rpartition("/")[2], []).append(path)

    def find(self, part: str) -> str | None:
        """Returns the deepest known module in a written path (its dotted name), "" for the root, None for no path."""
        inner = _WRAPPER.sub("", part)
        _root, separator, rest = inner.partition("/")
        if not separator:
            return "" if "." in inner else None
        while rest:
            path = self._complete(rest)
            if path is not None:
                return self._known[path]
            rest = rest.rpartition("/")[0]
        return ""

    def _complete(self, written: str) -> str | None:
        """Returns the known path that lacks the fewest segments in `written`, None where several lack as few."""
        if written in self._known:
            return written
        segments = written.split("/")
        candidates: dict[int, list[str]] = {}
        for path in self._ends.get(segments[-1], ()):
            whole = path.split("/")
            following = iter(whole)
            if all(segment in following for segment in segments):  # in this order, others between them
                candidates.setdefault(len(whole) - len(segments), []).append(path)
        nearest = candidates[min(candidates)] if candidates else []
        return nearest[0] if len(nearest) == 1 else None


#: Operators that carry a layer's weights; they are called by the layer's name alone.
_MATRIX_OPS = frozenset({"conv_2d", "depthwise_conv_2d", "fully_connected", "transpose_conv"})
#: Operators that a convolution or linear layer may need beside its own.
_OF_LAYERS = frozenset({"pad", "padv2", "quantize", "reshape", "transpose"})
#: Operators that an activation may be merged into.
_MERGING = frozenset({"add", "average_pool_2d", "concatenation", "div", "max_pool_2d", "mul", "sub"})


def _choose(paths: list[str], weighted: set[str], leaves: set[str], op: str) -> str:
    owners = [path for path in paths if path in weighted]
    if owners and op in _MATRIX_OPS:
        return max(owners, key=lambda path: path.count("."))
    owner = _owner(paths, weighted & leaves, leaves, op)
    return f"{owner}.{op}" if owner else op


def _owner(paths: list[str], layers: set[str], leaves: set[str], op: str) -> str:
    """Returns the module an operator without weights belongs to.

    The first path is that of the last operation in it; the others may come from operations it was merged with and from
    constants that it shares with other modules.
    """
    # A convolution next to an addition may lend it its path; the addition belongs to the module around both.
    own = [path if path not in layers or op in _OF_LAYERS else path.rpartition(".")[0] for path in paths]
    if not own:
        return ""
    if (
        op in _MERGING and own[0] in leaves
    ):  # the activation's; the operation it was merged into lies in a module around it
        around = [path for path in own if not path or own[0].startswith(f"{path}.")]
        return max(around, key=len, default=own[0])
    return own[0]


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
