"""Models: a literal table of built-in ones, and how any model is built from a recipe's `teacher` or `student` block."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.data.base import Ends, Normalization
from edgecompress.errors import ModelError
from edgecompress.models.built_in.dense import fc_autoencoder, mlp
from edgecompress.models.built_in.ds_cnn import ds_cnn
from edgecompress.models.built_in.mobilenet_v1 import mobilenet_v1
from edgecompress.models.built_in.mobilenet_v2 import mobilenet_v2
from edgecompress.models.built_in.recurrent import gru, lstm
from edgecompress.models.built_in.resnet import resnet8, resnet9, resnet20
from edgecompress.models.built_in.sequence import AsPicture
from edgecompress.models.built_in.tcn import tcn
from edgecompress.models.built_in.text_cnn import text_cnn
from edgecompress.models.built_in.transformer import transformer
from edgecompress.models.construction import (
    Shape,
    accepted_arguments,
    check_output,
    describe_arguments,
    explaining,
    find_head,
    let_samples_come_alone,
    unknown_argument,
)
from edgecompress.models.libraries.hf_models import build_hf
from edgecompress.models.libraries.keras_models import build_keras
from edgecompress.models.libraries.python_models import build_python
from edgecompress.models.libraries.timm_models import build_timm, timm_normalization
from edgecompress.models.libraries.torchvision_models import (
    adapt_channels,
    adapt_published,
    build_torchvision,
    torchvision_normalization,
)
from edgecompress.models.weight_files import State
from edgecompress.models.weights import load_foreign_weights
from edgecompress.recipe.schema import ModelSpec
from edgecompress.sources.allowance import Building

__all__ = ["BUILT_IN", "build_model", "published_normalization"]

#: The names are those of `recipe_names.MODELS`. Each takes (input_shape, num_classes, **args), or (ends, **args).
BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "resnet8": resnet8,
    "resnet9": resnet9,
    "resnet20": resnet20,
    "ds-cnn": ds_cnn,
    "mobilenet-v1": mobilenet_v1,
    "mobilenet-v2": mobilenet_v2,
    "text-cnn": text_cnn,
    "tcn": tcn,
    "gru": gru,
    "lstm": lstm,
    "transformer": transformer,
    "mlp": mlp,
    "fc-autoencoder": fc_autoencoder,
}
Adapt = Callable[[State], State]
Built = TypeVar("Built")


@dataclass(frozen=True)
class Asked:
    """A model that is no built-in one, as a recipe asks for it.

    Attributes:
        name: As the recipe has it, its family's prefix included.
        args: What the user gives it.
        ends: What it is built between.
        trust: Whether it may run code of its own.
        base_dir: The recipe's folder.
        normalization: How inputs are prepared.
    """

    name: str
    args: Mapping[str, Any]
    ends: Ends
    trust: bool
    base_dir: Path
    normalization: Normalization | None


def _python(asked: Asked) -> tuple[nn.Module, Adapt | None]:
    shape, classes = asked.ends.input_shape, asked.ends.outputs[-1]
    return build_python(asked.name, asked.args, shape, classes, trust=asked.trust, base_dir=asked.base_dir), None


def _keras(asked: Asked) -> tuple[nn.Module, Adapt | None]:
    model = build_keras(
        asked.name,
        asked.args,
        asked.ends.input_shape,
        asked.ends.outputs[-1],
        trust=asked.trust,
        base_dir=asked.base_dir,
        normalization=asked.normalization,
    )
    return model, None


def _hugging_face(asked: Asked) -> tuple[nn.Module, Adapt | None]:
    return build_hf(asked.name, asked.args, asked.ends, asked.base_dir), None


def _torchvision(asked: Asked) -> tuple[nn.Module, Adapt | None]:
    model = build_torchvision(asked.name, asked.args, asked.ends.input_shape, asked.ends.outputs[-1])
    return model, adapt_published(asked.name, model)


def _timm(asked: Asked) -> tuple[nn.Module, Adapt | None]:
    model = build_timm(asked.name, asked.args, asked.ends.input_shape, asked.ends.outputs[-1])
    return model, lambda state: adapt_channels(model, state)


#: What a model's name begins with -> what builds such a model, with random weights, and makes published weights fit it.
FAMILIES: dict[str, Callable[[Asked], tuple[nn.Module, Adapt | None]]] = {
    "python:": _python,
    "keras/": _keras,
    "hf/": _hugging_face,
    "torchvision/": _torchvision,
    "timm/": _timm,
}
#: Those whose models can be built without memory.
LIBRARIES = frozenset({"torchvision/", "timm/"})
#: Those whose sizes come from the recipe; others have files with weights that they have to fit.
BOUNDED = LIBRARIES | {"python:"}
#: The same -> how the inputs of published weights were normalised, where a library publishes them with its models.
NORMALIZATIONS: dict[str, Callable[[str], Normalization | None]] = {
    "torchvision/": torchvision_normalization,
    "timm/": timm_normalization,
}
#: The built-in models that take (ends, **args): series, tables and tokens.
SEQUENCES = frozenset({"text-cnn", "tcn", "gru", "lstm", "transformer", "mlp", "fc-autoencoder"})
#: Largest arguments by type: channels as int, multipliers as float. Beyond them memory runs out before an error comes.
LARGEST = {"int": 1024, "float": 16.0}


def build_model(
    spec: ModelSpec,
    input_shape: Shape,
    num_classes: int,
    *,
    trust: bool,
    base_dir: Path,
    seed: int,
    fine_tune: bool | None = None,
    normalization: Normalization | None = None,
    ends: Ends | None = None,
    ctx: Context | None = None,
) -> nn.Module:
    """Returns a model as a recipe describes it, on the CPU, with its weights where the recipe names a file.

    The same seed gives the same weights. The model has run once, so it is known to give one score per class.

    Args:
        spec: The recipe's block.
        input_shape: Shape of one sample, (C, H, W) for pictures.
        num_classes: How many scores it gives.
        trust: Whether a `python:` or `keras/` model may run its code.
        base_dir: The recipe's folder, from which relative paths start.
        seed: Of the initial weights.
        fine_tune: Whether it is trained after loading, so that a file with another number of classes may lend it
            everything but the head. Default: whether the block has `train`.
        normalization: How inputs are prepared; a `keras/` model may take them otherwise.
        ends: What the model is built between, where that is more than pictures and one score per class.
        ctx: Who is told how weights were made to fit.

    Raises:
        UsageError: It runs code that is not trusted.
        ModelError: It cannot be built with these arguments or for this data, or the weights do not fit.
    """
    ends = ends or Ends(tuple(input_shape), (num_classes,))
    # Drawing from a generator that is put back leaves the caller's random numbers as they were.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model, adapt = _construct(spec, ends, trust=trust, base_dir=base_dir, normalization=normalization)
        let_samples_come_alone(model)
        check_output(spec.model, model, ends, spec.output)
    if spec.weights is not None:
        load_foreign_weights(
            model,
            Path(base_dir, Path(spec.weights).expanduser()),
            head=find_head(model, ends.outputs[-1]),
            fine_tune=spec.train is not None if fine_tune is None else fine_tune,
            adapt=adapt,
            weights_key=spec.weights_key,
            ctx=ctx,
        )
    return model


def published_normalization(spec: ModelSpec) -> Normalization | None:
    """Returns how the inputs of published weights were normalised, None where the recipe names no such weights.

    Only weights that a library published with its own models are known; a network that starts from random weights is
    better served by the statistics of its data. The numbers are for RGB pictures.

    Raises:
        ModelError: There is no such model.
    """
    if spec.weights is None:
        return None
    found = (known for prefix, known in NORMALIZATIONS.items() if spec.model.startswith(prefix))
    return next((normalization(spec.model) for normalization in found), None)


def _construct(
    spec: ModelSpec, ends: Ends, *, trust: bool, base_dir: Path, normalization: Normalization | None
) -> tuple[nn.Module, Adapt | None]:
    """Returns a model with random weights, and what makes published weights fit it."""
    name, args = spec.model, spec.args
    input_shape, num_classes = ends.input_shape, ends.outputs[-1]
    for prefix, build_one in FAMILIES.items():
        if name.startswith(prefix):
            asked = Asked(name, args, ends, trust=trust, base_dir=base_dir, normalization=normalization)
            made = partial(build_one, asked)
            return _bounded(name, made, dry=prefix in LIBRARIES) if prefix in BOUNDED else made()
    if name not in BUILT_IN:
        raise ModelError(f"unknown model `{name}`. Known: {', '.join(BUILT_IN)}")
    build = BUILT_IN[name]
    if name in SEQUENCES:
        accepted = accepted_arguments(build, hidden=frozenset({"ends"}))
        _check_arguments(name, args, accepted)
        with explaining(name, args, input_shape, num_classes, lambda: describe_arguments(accepted)):
            return _bounded(name, lambda: build(ends, **args)), None
    if ends.kind == "series":  # one channel: time runs down, features across
        ends = replace(ends, input_shape=(1, *input_shape), kind="pictures")
        model, _ = _construct(spec, ends, trust=trust, base_dir=base_dir, normalization=normalization)
        return AsPicture(model), None
    if len(input_shape) != 3:  # noqa: PLR2004 - (C, H, W)
        raise ModelError(f"model {name} takes pictures (channels, height, width), not samples of shape {input_shape}")
    accepted = accepted_arguments(build, hidden=frozenset({"input_shape", "num_classes"}))
    _check_arguments(name, args, accepted)
    with explaining(name, args, input_shape, num_classes, lambda: describe_arguments(accepted)):
        return _bounded(name, lambda: build(input_shape, num_classes, **args)), None


def _bounded(name: str, build: Callable[[], Built], *, dry: bool = True) -> Built:
    """Returns what is built, unless it comes to more than the memory takes.

    Args:
        name: The model's.
        build: Makes it; `python:` models may do anything.
        dry: Whether it is built without memory first, so that one that is too large costs no time.

    Raises:
        ModelError: It is too large.
    """
    if dry:
        try:
            with torch.device("meta"), Building(name):
                build()
        except ModelError:
            raise
        except Exception:  # noqa: BLE001, S110 - what looks at its values needs them; and what is wrong is told below
            pass
    with Building(name):
        return build()


def _check_arguments(name: str, args: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter]) -> None:
    """Raises ModelError for the first argument of a built-in model that is unknown or no sensible number."""
    for argument, value in args.items():
        if argument not in accepted:
            raise unknown_argument(name, argument, accepted)
        kind = str(accepted[argument].annotation)
        if argument == "dropout":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise ModelError(f"model {name}: argument `dropout` must be a number from 0 to below 1, not {value!r}.")
            continue
        largest = LARGEST[kind]
        number = isinstance(value, int | float if kind == "float" else int) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 < value <= largest:
            what = "a whole number" if kind == "int" else "a number"
            raise ModelError(
                f"model {name}: argument `{argument}` must be {what} above 0 and at most {largest:g}, not {value!r}. "
                f"Its arguments: {describe_arguments(accepted)}"
            )
