"""Where in a user's code an operation comes from: torch.export keeps the stack of every call."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgecompress.quiet import quiet

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in \S+)?\n?\s*(?P<source>[^\n]*)')
_HERE = Path(__file__).parents[1]
_LIBRARIES = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Origin:
    """One operation of an exported module.

    Attributes:
        operation: Its name in torch, such as `aten.flip.default`.
        module: Path of the module it was called in, "" for the whole network.
        where: File and line of the call, "" where they are not known.
        source: That line.
    """

    operation: str
    module: str
    where: str
    source: str

    def __str__(self) -> str:
        place = f"in {self.module}" if self.module else "in the network itself"
        line = f", {self.where}" if self.where else ""
        return f"{place}{line}{f': `{self.source}`' if self.source else ''}"


def origins(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[Origin]:
    """Returns a module's operations in the order in which they run, none where it cannot be exported.

    Args:
        model: In evaluation mode.
        inputs: One sample of each input.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(model, inputs, strict=False)
        except Exception:  # noqa: BLE001 - whatever its layers raise: only the place is not known then
            return []
    return [_origin(node) for node in program.graph.nodes if node.op == "call_function"]


def frames_of(error: BaseException) -> str:
    """Returns file and line of the innermost call in an error that is not a library's, "" where there is none.

    Looked for in what the error says and in where it was raised.
    """
    found = _last_frame(str(error))
    if found is not None:
        return f"{found[0]}: `{found[1]}`" if found[1] else found[0]
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for one in reversed(chain):
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            if _is_users(frame.filename):
                return f"{frame.filename}:{frame.lineno}: `{frame.line}`"
    return ""


def find_origin(known: Iterable[Origin], operation: str) -> Origin | None:
    """Returns the first operation of that name, whatever its overload."""
    wanted = operation.removeprefix("aten.").partition(".")[0]
    return next((one for one in known if one.operation.removeprefix("aten.").partition(".")[0] == wanted), None)


def origin_of(known: Iterable[Origin], label: str, op: str) -> Origin | None:
    """Returns the operation that an operator of a flatbuffer most likely comes from.

    Args:
        known: The module's operations.
        label: The operator's layer name, a module's path with the operator's own name behind it.
        op: The operator's name in the schema.
    """
    path = re.sub(r"#\d+$", "", label)
    path = path if path.rpartition(".")[2] != op.lower() else path.rpartition(".")[0]
    path = "" if path == op.lower() else path
    within = [one for one in known if one.module == path] or [one for one in known if one.module.startswith(path)]
    words = {op.lower(), *op.lower().split("_"), *_TORCH_NAMES.get(op, ())}
    named = [one for one in within if words & {*one.operation.split("."), *one.operation.split(".")[1:2]}]
    named = named or [one for one in within if any(word in one.operation for word in words if len(word) > 2)]  # noqa: PLR2004
    return next(iter(named or within), None)


#: Operator of a flatbuffer -> what torch calls it, where no part of its name is the same.
_TORCH_NAMES: dict[str, tuple[str, ...]] = {
    "BATCH_MATMUL": ("matmul", "bmm", "scaled_dot_product_attention", "einsum"),
    "CONCATENATION": ("cat", "stack"),
    "GATHER": ("index", "index_select", "embedding"),
    "GATHER_ND": ("index",),
    "LOGISTIC": ("sigmoid", "silu"),
    "MIRROR_PAD": ("pad", "reflection_pad2d"),
    "REVERSE_V2": ("flip",),
    "SELECT_V2": ("where", "masked_fill"),
    "SIGN": ("sign", "sgn"),
    "STABLEHLO_SORT": ("topk", "sort", "argsort", "median", "kthvalue"),
    "TOPK_V2": ("topk", "sort"),
}


def _origin(node: Any) -> Origin:
    stack = node.meta.get("nn_module_stack") or {}
    path = [str(entry[0]) for entry in stack.values()]
    frame = _last_frame(node.meta.get("stack_trace") or "", own=True) or ("", "")
    return Origin(str(node.target), _module_path(path[-1]) if path else "", *frame)


def _module_path(name: str) -> str:
    """Returns a module's path as the network itself has it, without what was put around it for conversion."""
    return re.sub(r"^wrapped\.?", "", re.sub(r"^L\['self'\]\.?|^_nn_module", "", name))


def _last_frame(text: str, *, own: bool = False) -> tuple[str, str] | None:
    """Returns file:line and source of the innermost call of a user's, or with `own` of any that is not torch's."""
    frames = list(_FRAME.finditer(text))
    users = [frame for frame in frames if _is_users(frame["file"])]
    if own and not users:
        users = [frame for frame in frames if "/torch/" not in frame["file"]]
    return (f"{users[-1]['file']}:{users[-1]['line']}", users[-1]["source"].strip()) if users else None


def _is_users(file: str) -> bool:
    parts = Path(file).parts
    return (
        file.endswith(".py")
        and not any(one in parts for one in _LIBRARIES)
        and not Path(file).is_relative_to(_HERE)
        and not ("lib" in parts and any(part.startswith("python3") for part in parts))
    )
