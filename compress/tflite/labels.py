"""Layer names: which torch module each operator of a flatbuffer comes from.

litert-torch writes the path of torch modules into tensor names, one segment `CLASS_ATTRIBUTE` a module, joined by `/`;
an operator that fuses several modules carries several paths, joined by `;;`. With the module at hand every path is known
exactly, so nothing is matched by order or by guessing where a class name ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from torch import nn

_WRAPPER = re.compile(r"^litert_torch\._convert\.to_channel_last_io\.ChannelLastIOWrapper/")
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
    and their own name (`stack2.add`).
    """
    known = module_paths(module)
    weighted = {name for name, child in module.named_modules() if _has_matrix(child)}
    graph = model.subgraphs[0]
    taken: dict[str, int] = {}
    labels = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        op = _CODES.get(max(int(code.builtinCode or 0), int(code.deprecatedBuiltinCode or 0)), "CUSTOM").lower()
        found = [_find(part, known) for part in _parts(graph, operator.outputs)]
        if op in _MATRIX_OPS and not weighted.intersection(path for path in found if path):
            # The model's output is named after the signature: the weight still carries the layer's path.
            found += [_find(part, known) for part in _parts(graph, operator.inputs[1:])]
        label = _choose([path for path in found if path is not None], weighted, op)
        taken[label] = taken.get(label, 0) + 1
        labels.append(label if taken[label] == 1 else f"{label}#{taken[label]}")
    return labels


def _parts(graph: Any, numbers: Iterable[int]) -> Iterable[str]:
    for number in numbers:
        if number < 0:
            continue
        name = graph.tensors[number].name.decode("utf-8", "replace")
        for part in name.split(";;"):
            yield re.sub(r";\d*$", "", part)


def _find(part: str, known: dict[str, str]) -> str | None:
    """Returns the dotted name of the deepest known module in a written path, "" for the root, None for no path."""
    inner = _WRAPPER.sub("", part)
    _root, separator, rest = inner.partition("/")
    if not separator:
        return "" if "." in inner else None
    while rest and rest not in known:
        rest = rest.rpartition("/")[0]
    return known.get(rest, "")


#: Operators that carry a layer's weights; they are called by the layer's name alone.
_MATRIX_OPS = frozenset({"conv_2d", "depthwise_conv_2d", "fully_connected", "transpose_conv"})


def _choose(paths: list[str], weighted: set[str], op: str) -> str:
    owners = [path for path in paths if path in weighted]
    if owners and op in _MATRIX_OPS:
        return max(owners, key=lambda path: path.count("."))
    deepest = max(paths, key=lambda path: (path.count(".") if path else -1, len(path)), default="")
    return f"{deepest}.{op}" if deepest else op


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
