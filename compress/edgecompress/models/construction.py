"""Building a model from arguments that a user wrote, and checking that it does what a classifier does."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import EdgecompressError, ModelError
from edgecompress.models.blame import place_of
from edgecompress.models.outputs import pick_output
from edgecompress.sources.allowance import Running

Shape = tuple[int, ...]
#: What the sides of a sample are, by the kind of the data.
AXES = {
    "pictures": "channels x height x width",
    "series": "steps x features",
    "features": "features",
    "tokens": "tokens",
}
#: What can be changed where a network does not take such samples.
REMEDIES = {
    "pictures": "Set data.image_size (and data.channels) to what it takes",
    "series": "Set data.length to what it takes",
    "features": "Choose data.features as it takes them",
    "tokens": "Set data.length to what it takes",
}


def accepted_arguments(function: Callable[..., Any], *, hidden: frozenset[str]) -> dict[str, inspect.Parameter]:
    """Returns the keyword arguments with a default that a function or class takes, `hidden` ones left out."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in hidden and parameter.default is not inspect.Parameter.empty
    }


def describe_arguments(accepted: Mapping[str, inspect.Parameter]) -> str:
    """Returns arguments with their defaults, those that a recipe cannot write left out, for a message."""
    plain = (p for p in accepted.values() if isinstance(p.default, bool | int | float | str | tuple | list | None))
    return ", ".join(f"{p.name}={p.default!r}" for p in plain) or "none"


def unknown_argument(model: str, name: str, accepted: Mapping[str, inspect.Parameter]) -> ModelError:
    """Returns the error for an argument that a model does not take."""
    near = difflib.get_close_matches(name, accepted, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else "."
    return ModelError(f"model {model} takes no argument `{name}`{hint} Its arguments: {describe_arguments(accepted)}")


@contextlib.contextmanager
def explaining(
    model: str, args: Mapping[str, Any], input_shape: Shape, num_classes: int, accepted: Callable[[], str]
) -> Iterator[None]:
    """Turns whatever a constructor raises into an error that says what was asked for and what the model takes."""
    try:
        yield
    except (MemoryError, EdgecompressError):
        raise
    except (Exception, SystemExit) as error:  # constructors raise whatever their layers raise
        given = ", ".join(f"{name}={value!r}" for name, value in args.items())
        raise ModelError(
            f"model {model} cannot be built for inputs of {_shown(input_shape)} and {num_classes} classes"
            f"{f' with {given}' if given else ''}: {type(error).__name__}: {_first_line(error)}. "
            f"Its arguments: {accepted()}"
        ) from error


class _Alone(nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - what all three kinds have in common
    """A batch norm without averages, which takes those of the batch also where that is one sample."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name that torch has
        if self.training:
            return super().forward(input)
        # As torch computes it, but without its refusal of a single value: that has no spread, so the bias is left.
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        momentum = 0.0 if self.momentum is None else self.momentum
        return torch.batch_norm(
            input, self.weight, self.bias, None, None, True, momentum, self.eps, torch.backends.cudnn.enabled
        )


_ALONE: dict[type[nn.Module], type[nn.Module]] = {
    kind: type(kind.__name__, (_Alone, kind), {}) for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
}


def let_samples_come_alone(model: nn.Module) -> None:
    """Lets batch norms without averages (`track_running_stats=False`) answer to one sample, in place.

    On a device samples come one by one. What such a network makes of that is no error but a finding: the report's
    verdict tells that its answers depend on the batch.
    """
    for module in model.modules():
        if type(module) in _ALONE and module.running_mean is None:
            module.__class__ = _ALONE[type(module)]


def check_output(name: str, model: nn.Module, ends: Ends, scored: str | None = None) -> None:
    """Runs a model once, in evaluation mode on zeros; its mode is restored.

    Args:
        name: The model's, for messages.
        model: It gives one tensor from now on, where it gave several.
        ends: What it is built between.
        scored: Which of several outputs that is.

    Raises:
        ModelError: It fails on such an input, or does not answer as the task needs.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    shown = f"{_shown(ends.input_shape)} ({AXES[ends.kind]})"
    expected = (1, *ends.outputs)
    try:
        with torch.no_grad(), Running(name, shown, REMEDIES[ends.kind]):
            output = model(ends.example())
    except (MemoryError, EdgecompressError):
        raise
    except (Exception, SystemExit) as error:  # a forward pass raises whatever its layers raise
        raise ModelError(
            f"model {name} cannot work on inputs of {shown}: {type(error).__name__}: {_first_line(error)}"
            f"{_place(error, model)}. {REMEDIES[ends.kind]}, or choose another model."
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    given = type(output).__name__
    output = pick_output(name, model, scored, output)
    if output is None:
        raise ModelError(f"model {name} answers with a {given}; expected one tensor, {expected} for one sample")
    if tuple(output.shape) != expected:
        meaning = f", one score for each of the {ends.outputs[0]} classes" if len(ends.outputs) == 1 else ""
        raise ModelError(
            f"model {name} answers with a tensor of {tuple(output.shape)} for one sample of "
            f"{_shown(ends.input_shape)}; expected {expected}{meaning}"
        )


def find_head(model: nn.Module, num_classes: int) -> str | None:
    """Returns the path of the layer that gives the class scores, None where there is none.

    It is the last linear layer or 1x1 convolution with as many outputs as there are classes.
    """
    head = None
    for name, module in model.named_modules():
        linear = isinstance(module, nn.Linear) and module.out_features == num_classes
        pointwise = isinstance(module, nn.Conv2d) and module.out_channels == num_classes
        if linear or (pointwise and module.kernel_size == (1, 1)):
            head = name
    return head


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Returns path and module of the first convolution, None where there is none."""
    return next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)


def kernels_for_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Returns kernels for RGB, (out, 3, h, w), as kernels for another number of channels, (out, channels, h, w).

    For grey pictures the three are summed, which answers to a grey picture as the original does to the same picture
    in RGB. For other numbers they are repeated in turn and scaled, so that the answers keep their size.
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    rgb = weight.shape[1]
    index = torch.arange(channels) % rgb
    return weight[:, index] * (rgb / channels)


def _shown(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _place(error: BaseException, model: nn.Module) -> str:
    """Returns the line of a user's that an error came from, in brackets; "" where libraries alone have run."""
    place = place_of(list(traceback.walk_tb(error.__traceback__))[1:], model) or ""
    return f" ({place})" if ":" in place and "-packages" not in place else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0].rstrip(".!")
