"""Torchvision's classification models: `torchvision/NAME`."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from edgecompress.data.base import Normalization
from edgecompress.errors import ModelError
from edgecompress.models.construction import (
    Shape,
    accepted_arguments,
    describe_arguments,
    explaining,
    first_convolution,
    kernels_for_channels,
)
from edgecompress.models.weight_files import State
from edgecompress.sources.torchvision_import import import_torchvision

PREFIX = "torchvision/"
RGB = 3
#: What the recipe says elsewhere, or what edgecompress decides: argument -> where it is from.
REFUSED = {
    "weights": "name a file with the model's `weights:` key instead",
    "num_classes": "it comes from the data",
    "progress": "nothing is downloaded",
    "aux_logits": "auxiliary outputs are always off",
    "transform_input": "inputs are normalised by edgecompress",
}
#: Models with auxiliary outputs, which are left out. Their published weights expect inputs between -1 and 1, which
#: torchvision reaches by `transform_input`, a second normalisation.
AUXILIARY = ("googlenet", "inception_v3")
#: Models that are built for one size of picture -> the argument that says which.
SIZED = {"vit_": "image_size", "maxvit_": "input_size"}
#: DenseNet's published files call `norm1` `norm.1`, and so on.
_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


def build_torchvision(name: str, args: Mapping[str, Any], input_shape: Shape, num_classes: int) -> nn.Module:
    """Returns a torchvision model with one output per class and as many input channels as the data has.

    Args:
        name: `torchvision/NAME`.
        args: Keyword arguments of torchvision's builder.
        input_shape: (C, H, W). Vision transformers are built for this size, unless `args` name one.
        num_classes: Outputs.

    Raises:
        ModelError: There is no such model, or it cannot be built with these arguments.
    """
    builder = _builder(name)
    for argument in args:
        if argument in REFUSED:
            raise ModelError(f"model {name}: `args` must not have `{argument}`: {REFUSED[argument]}")
    short = name.removeprefix(PREFIX)
    fixed: dict[str, Any] = {"weights": None, "progress": False, "num_classes": num_classes}
    if short in AUXILIARY:
        fixed |= {"aux_logits": False, "transform_input": False, "init_weights": True}
    for prefix, argument in SIZED.items():
        if short.startswith(prefix):
            square = input_shape[1] == input_shape[2]
            size: Any = input_shape[1] if prefix == "vit_" else tuple(input_shape[1:])
            fixed |= {argument: size} if square or prefix != "vit_" else {}
    with explaining(name, args, input_shape, num_classes, lambda: _arguments(builder)):
        model: nn.Module = builder(**(fixed | dict(args)))
    _match_channels(model, input_shape[0])
    return model


def adapt_published(name: str, model: nn.Module) -> Callable[[State], State]:
    """Returns a function that makes torchvision's published tensors fit a model that `build_torchvision` made.

    Kernels for RGB become kernels for the data's channels (see `kernels_for_channels`), old names become new ones,
    auxiliary outputs are left out.
    """
    short = name.removeprefix(PREFIX)

    def adapt(state: State) -> State:
        if short.startswith("densenet"):
            state = {_DENSENET.sub(r"\1\2", key): tensor for key, tensor in state.items()}
        if short in AUXILIARY:
            state = {key: t for key, t in state.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))}
        return adapt_channels(model, state)

    return adapt


def adapt_channels(model: nn.Module, state: State) -> State:
    """Returns a state dict whose first kernels, where they are for RGB, suit the channels of the model."""
    found = first_convolution(model)
    if found is None:
        return state
    key, channels = f"{found[0]}.weight", found[1].in_channels
    kernels = state.get(key)
    if kernels is None or kernels.ndim != found[1].weight.ndim or kernels.shape[1] != RGB or channels == RGB:
        return state
    return state | {key: kernels_for_channels(kernels, channels)}


def torchvision_normalization(name: str) -> Normalization:
    """Returns how inputs were normalised when a model's published weights were trained.

    Raises:
        ModelError: There is no such model.
    """
    _builder(name)
    short = name.removeprefix(PREFIX)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std = mean
    if short not in AUXILIARY:
        preset = import_torchvision().models.get_model_weights(short).DEFAULT.transforms()
        mean, std = tuple(preset.mean), tuple(preset.std)
    return Normalization(1 / 255, mean, std, f"as published with torchvision's {short} (ImageNet)")


def _builder(name: str) -> Callable[..., nn.Module]:
    models = import_torchvision().models
    known: list[str] = models.list_models(module=models)
    short = name.removeprefix(PREFIX)
    if short not in known:
        near = difflib.get_close_matches(short.lower().replace("-", "_"), known, n=3)
        hint = f"did you mean {' or '.join(PREFIX + each for each in near)}?" if near else f"Known: {', '.join(known)}"
        raise ModelError(f"torchvision has no classification model `{short}`; {hint}")
    builder: Callable[..., nn.Module] = models.get_model_builder(short)
    return builder


def _match_channels(model: nn.Module, channels: int) -> None:
    """Gives a model's first convolution another number of input channels."""
    found = first_convolution(model)
    if found is None or found[1].in_channels == channels:
        return
    path, conv = found
    with torch.no_grad():
        conv.weight = nn.Parameter(kernels_for_channels(conv.weight, channels).contiguous())
    conv.in_channels = channels
    # Transformers keep the number beside the convolution.
    parent = model.get_submodule(path.rpartition(".")[0])
    if getattr(parent, "in_channels", None) == RGB:
        parent.in_channels = channels  # type: ignore[assignment]


def _arguments(builder: Callable[..., nn.Module]) -> str:
    """Returns what a builder takes: its own arguments and those of the class it makes, which it passes on."""
    hidden = frozenset({*REFUSED, "init_weights"})
    accepted: dict[str, inspect.Parameter] = accepted_arguments(builder, hidden=hidden)
    with torch.device("meta"):
        model = builder(weights=None)
    return describe_arguments(accepted | accepted_arguments(type(model), hidden=hidden))
