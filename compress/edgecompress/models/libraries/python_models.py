"""Models that users write themselves: `python:module:function`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from edgecompress.errors import ModelError
from edgecompress.sources.python_code import call_function, load_function, python_source_file

__all__ = ["build_python", "load_function", "python_source_file"]


def build_python(
    name: str,
    args: Mapping[str, Any],
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    trust: bool,
    base_dir: Path,
) -> nn.Module:
    """Returns the module that a user's function makes, or a user's class is.

    It gets `num_classes` and `input_shape` where its signature has them (or takes any keyword), then `args`.

    Raises:
        UsageError: The code is not trusted.
        ModelError: It cannot be found or loaded, raises something, or returns no module.
    """
    offered = {"num_classes": num_classes, "input_shape": input_shape}
    model = call_function(name, base_dir, args, trust=trust, what="model", offered=offered)
    if not isinstance(model, nn.Module):
        raise ModelError(f"model `{name}` returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model
