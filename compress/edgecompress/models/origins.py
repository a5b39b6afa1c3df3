"""Where in a user's code an operation comes from."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in \S+)?\n?\s*(?P<source>[^\n]*)')
_BUILT_IN = Path(__file__).parent / "built_in"
_OURS = (Path(__file__).parents[1], Path(__file__).parents[1].with_name("edgecompress_cli"))
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
    """Returns a module's operations in the order in which they run, none where it cannot run.

    The stack that torch.export keeps of each has the lines of `forward` alone: so the module is run, and looked at.

    Args:
        model: In evaluation mode.
        inputs: One sample of each input.
    """
    watch = _Watch()
    hooks = []
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            hooks.append(module.register_forward_pre_hook(watch.entering(name)))
            hooks.append(module.register_forward_hook(watch.leaving, always_call=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.no_grad(), watch:
                model(*(one.clone() for one in inputs))
        except Exception:  # noqa: BLE001 - whatever its layers raise: the operations up to there are known
            return watch.found
        finally:
            for hook in hooks:
                hook.remove()
    return watch.found


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation with the module it runs in and the line it comes from."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Origin] = []
        self._within: list[str] = []

    def entering(self, name: str) -> Callable[..., None]:
        """Returns a hook that tells which module is entered."""
        return lambda _module, _inputs: self._within.append(name)

    def leaving(self, *_given: Any) -> None:
        """Tells that a module is left."""
        self._within.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        frames = list(traceback.extract_stack())
        here = max(k for k, frame in enumerate(frames) if frame.filename == __file__ and frame.name == "origins")
        frames = [frame for frame in frames[here:] if frame.filename != __file__]
        users = [frame for frame in frames if _is_users(frame.filename)]
        others = [frame for frame in frames if "/torch/" not in frame.filename and not _is_ours(frame.filename)]
        frame = (users or others or [None])[-1]  # type: ignore[list-item]
        where = "" if frame is None else f"{frame.filename}:{frame.lineno}"
        module = self._within[-1] if self._within else ""
        name = str(func)
        if "convolution" in name and args and isinstance(args[0], torch.Tensor):  # over how many axes is all that tells
            name = f"aten.conv{args[0].ndim - 2}d.default"
        self.found.append(Origin(name, _module_path(module), where, "" if frame is None else frame.line or ""))
        return func(*args, **(kwargs or {}))


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
    """Returns the operation that an operator of a flatbuffer most likely comes from, None where no line is known.

    Args:
        known: The module's operations.
        label: The operator's layer name, a module's path with the operator's own name behind it.
        op: The operator's name in the schema.
    """
    known = [one for one in known if one.where]
    path = re.sub(r"#\d+$", "", label)
    path = path if path.rpartition(".")[2] != op.lower() else path.rpartition(".")[0]
    path = "" if path == op.lower() else path
    within = [one for one in known if one.module == path] or [one for one in known if one.module.startswith(path)]
    words = {op.lower(), *op.lower().split("_"), *_TORCH_NAMES.get(op, ())}
    for group in (within, known):
        exact = [one for one in group if words & {*one.operation.split(".")}]
        similar = [one for one in group if any(word in one.operation for word in words if len(word) > 2)]  # noqa: PLR2004
        if exact or similar:
            return (exact or similar)[0]
    return next(iter(within), None)


#: Operator of a flatbuffer -> what torch calls it, where no part of its name is the same.
_TORCH_NAMES: dict[str, tuple[str, ...]] = {
    "BATCH_MATMUL": ("matmul", "bmm", "scaled_dot_product_attention", "einsum"),
    "CONCATENATION": ("cat", "stack"),
    "CONV_2D": ("conv1d", "conv2d"),
    "CONV_3D": ("conv3d",),
    "DEPTHWISE_CONV_2D": ("conv1d", "conv2d"),
    "TRANSPOSE_CONV": ("conv1d", "conv2d"),
    "GATHER": ("index", "index_select", "embedding"),
    "GATHER_ND": ("index",),
    "LOGISTIC": ("sigmoid", "silu"),
    "MIRROR_PAD": ("pad", "reflection_pad2d"),
    "REVERSE_V2": ("flip",),
    "SELECT_V2": ("where", "masked_fill"),
    "SIGN": ("sign", "sgn"),
    "STABLEHLO_SORT": ("topk", "sort", "argsort", "median", "kthvalue"),
    "TOPK_V2": ("topk", "sort", "argsort", "median", "kthvalue"),
}


def _module_path(name: str) -> str:
    """Returns a module's path as the network itself has it, without what was put around it for conversion."""
    return re.sub(r"^wrapped\.?", "", name)


def _last_frame(text: str) -> tuple[str, str] | None:
    """Returns file:line and source of the innermost call of a user's in a text."""
    users = [frame for frame in _FRAME.finditer(text) if _is_users(frame["file"])]
    return (f"{users[-1]['file']}:{users[-1]['line']}", users[-1]["source"].strip()) if users else None


def _is_users(file: str) -> bool:
    parts = Path(file).parts
    return (
        file.endswith(".py")
        and not any(one in parts for one in _LIBRARIES)
        and not _is_ours(file)
        and not ("lib" in parts and any(part.startswith("python3") for part in parts))
    )


def _is_ours(file: str) -> bool:
    """Returns whether a file is this program's, its built-in models aside."""
    path = Path(file)
    return any(path.is_relative_to(root) for root in _OURS) and not path.is_relative_to(_BUILT_IN)
