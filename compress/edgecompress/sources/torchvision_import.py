"""Torchvision, also beside a torch build that its compiled operators do not fit."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from edgecompress.errors import ResourceError

#: Operators that torchvision describes to torch when it is imported, though they are defined by its compiled part.
#: Without that part (a torchvision made for CUDA beside a CPU-only torch) the import fails for want of their schemas.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
#: The declarations last as long as this list holds their library.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Returns the torchvision module, with `torchvision.models` and `torchvision.transforms` in it.

    Where the plain import fails because the compiled operators are missing, their schemas are declared and it is
    tried again: models, transforms and datasets then work; detection operators such as nms do not.

    Raises:
        ResourceError: Torchvision is not installed, or does not fit the installed torch.
    """
    try:
        return _import()
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torchvision":
            raise ResourceError("torchvision is not installed: pip install torchvision") from error
    _forget()
    _declare()
    try:
        return _import()
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        _forget()
        raise ResourceError(
            f"torchvision cannot be imported beside torch {torch.__version__}: {type(error).__name__}: {error}. "
            "Install versions that belong together, for example with the project's constraints.txt."
        ) from error


def _import() -> ModuleType:
    torchvision = importlib.import_module("torchvision")
    importlib.import_module("torchvision.models")
    importlib.import_module("torchvision.transforms")
    return torchvision


def _forget() -> None:
    """Removes what a failed import left, so that the next one starts from the beginning."""
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]


def _declare() -> None:
    if _declared:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
