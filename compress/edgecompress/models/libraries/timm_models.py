"""The models of timm (PyTorch Image Models), where it is installed: `timm/NAME`."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from edgecompress.data.base import Normalization
from edgecompress.errors import ModelError
from edgecompress.models.construction import Shape, accepted_arguments, describe_arguments, explaining
from edgecompress.sources.torchvision_import import import_torchvision

PREFIX = "timm/"
#: What the recipe says elsewhere: argument -> where it is from.
REFUSED = {
    "pretrained": "name a file with the model's `weights:` key instead",
    "checkpoint_path": "name a file with the model's `weights:` key instead",
    "pretrained_cfg": "name a file with the model's `weights:` key instead",
    "num_classes": "it comes from the data",
    "in_chans": "it comes from the data",
}


def build_timm(name: str, args: Mapping[str, Any], input_shape: Shape, num_classes: int) -> nn.Module:
    """Returns a timm model with one output per class and as many input channels as the data has.

    Args:
        name: `timm/NAME`.
        args: Keyword arguments of the model.
        input_shape: (C, H, W). Models of one fixed size are built for this one, unless `args` name an `img_size`.
        num_classes: Outputs.

    Raises:
        ModelError: timm is not installed, has no such model, or cannot build it with these arguments.
    """
    timm, short = _timm(name)
    for argument in args:
        if argument in REFUSED:
            raise ModelError(f"model {name}: `args` must not have `{argument}`: {REFUSED[argument]}")
    fixed: dict[str, Any] = {"pretrained": False, "num_classes": num_classes, "in_chans": input_shape[0]}
    config = timm.get_pretrained_cfg(short, allow_unregistered=True)
    if config is not None and config.fixed_input_size and tuple(config.input_size[1:]) != tuple(input_shape[1:]):
        fixed["img_size"] = tuple(input_shape[1:])
    explained = explaining(name, args, input_shape, num_classes, lambda: _arguments(timm, short))
    with explained, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = timm.create_model(short, **(fixed | dict(args)))
    return model


def timm_normalization(name: str) -> Normalization | None:
    """Returns how inputs were normalised when a model's published weights were trained, None where timm does not say.

    Raises:
        ModelError: timm is not installed or has no such model.
    """
    timm, short = _timm(name)
    config = timm.get_pretrained_cfg(short, allow_unregistered=True)
    if config is None or not config.mean:
        return None
    return Normalization(1 / 255, tuple(config.mean), tuple(config.std), f"as published with timm's {short}")


def _timm(name: str) -> tuple[Any, str]:
    """Returns timm and the name of a model that it has."""
    import_torchvision()  # timm imports it too, and fails where the plain import does
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ModelError(f"model {name} needs timm, which cannot be imported ({error}): pip install timm") from error
    short = name.removeprefix(PREFIX)
    if not timm.is_model(short):
        near = difflib.get_close_matches(short.lower(), timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(PREFIX + each for each in near)}?" if near else "see timm.list_models()"
        raise ModelError(f"timm {timm.__version__} has no model `{short}`; {hint}")
    return timm, short


def _arguments(timm: Any, short: str) -> str:
    """Returns what the class behind a name takes."""
    model = timm.create_model(short, pretrained=False)
    return describe_arguments(accepted_arguments(type(model), hidden=frozenset(REFUSED)))
