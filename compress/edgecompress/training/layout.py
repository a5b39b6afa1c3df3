"""How the numbers of pictures lie in memory while a model runs, and by whose kernels it is trained.

Channels last is much faster for most convolutions, but a model that somebody wrote was written for the usual layout:
`x.view(x.size(0), -1)` fails otherwise. And oneDNN (of torch 2.13) crashes in the gradients of some convolutions then.
What holds for the very model is tried in a child process.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from enum import StrEnum
from functools import cache

import torch
from torch import nn

from edgecompress.training.precision import autocast
from edgecompress.training.probe import Tell, Trial, attempt
from edgecompress.training.random_state import seed_all

#: Whether oneDNN's kernels are used here, as long as nothing of ours says otherwise.
USUAL: bool = bool(torch.backends.mkldnn.enabled)
#: Where a model keeps how it is to be run.
MARK = "edgecompress_layout"
#: Where a twin says of its own which layers of the kind that crashes it has.
OWN_STRIDES = "narrow_strides"
#: Input channels from which on strided 1x1 convolutions channels last have never crashed: of 21 numbers of channels
#: from 1 to 80, in five sizes each, those from 3 to 15 did on AVX512, on AVX2 those below 8.
SAFE_CHANNELS = 16
#: Filters, side and samples with which most of them do.
LARGE_TRIALS = ((16, 224, 4), (48, 224, 4), (7, 64, 16))
#: A trial takes so many samples at most, and as few as have so many values together, but never fewer than the least.
MOST_SAMPLES, MOST_VALUES, FEWEST_SAMPLES = 16, 16 * 3 * 48 * 48, 4
#: Two layouts give the same where outputs and gradients differ by less than this share of their norm.
SAME_OUTPUTS, SAME_GRADIENTS = 1e-3, 1e-2
#: Gradients that are nothing but rounding are compared with those of the whole model.
NOTHING = 1e-4
FORMATS = (torch.contiguous_format, torch.channels_last)
#: Axes of a batch of pictures, and of the filters of their convolutions.
PICTURES = 4


class Layout(StrEnum):
    """How a model is run."""

    CHANNELS_LAST = "channels last"
    CONTIGUOUS = "contiguous"
    #: Contiguous, by torch's own kernels.
    PLAIN = "contiguous, without oneDNN"


def lay_out(
    model: nn.Module,
    inputs: torch.Tensor,
    device: torch.device,
    *,
    input_shape: tuple[int, ...],
    built_in: bool,
) -> nn.Module:
    """Returns a model on a device, laid out as suits it, and marked so that `arranged` and `safe_kernels` know.

    Args:
        model: On the CPU.
        inputs: Some samples as the network takes them.
        device: Where it is to run.
        input_shape: Of a sample; decides on the arithmetic.
        built_in: Whether the program wrote it, which then is known to take any layout.
    """
    layout = choose(model, inputs, device, input_shape=input_shape, built_in=built_in)
    model = model.to(device)
    if layout is Layout.CHANNELS_LAST:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    setattr(model, MARK, layout)
    return model


def choose(
    model: nn.Module,
    inputs: torch.Tensor,
    device: torch.device,
    *,
    input_shape: tuple[int, ...],
    built_in: bool,
) -> Layout:
    """Returns the layout in which a model gives what it was written to give, the fastest of those."""
    if not any(parameter.ndim == PICTURES for parameter in model.parameters()):
        return Layout.CONTIGUOUS  # no filters: nothing to gain
    crashes = device.type == "cpu" and may_crash(narrow_strides(model))
    if built_in:
        return Layout.CONTIGUOUS if crashes else Layout.CHANNELS_LAST
    most = max(MOST_VALUES // max(inputs[0].numel(), 1), FEWEST_SAMPLES)
    x = inputs[: min(most, MOST_SAMPLES)]

    def compare(tell: Tell) -> None:
        _compare(model, x, input_shape, tell, FORMATS[: 1 if crashes else 2])

    # A GPU's kernels do not crash, and a process that has used one cannot be copied.
    on_cpu = device.type == "cpu"
    trial = attempt(compare) if on_cpu else Trial(_in_this_process(model, x, device, input_shape))
    if "l" in trial.told:
        return Layout.CHANNELS_LAST
    return Layout.PLAIN if trial.crashed and "c" not in trial.told else Layout.CONTIGUOUS


def arranged(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Returns a batch as a model's layout has it: contiguous, unless the model is known to take others."""
    layout = getattr(model, MARK, Layout.CONTIGUOUS)
    return x if layout is Layout.CHANNELS_LAST else as_usual(x)


def as_usual(x: torch.Tensor) -> torch.Tensor:
    """Returns a tensor whose numbers lie as torch lays out new ones.

    With one channel both layouts have the same order, and `contiguous` does nothing; but the strides still say channels
    last, by which convolutions go.
    """
    return x.contiguous().flatten().view(x.shape)


@contextlib.contextmanager
def safe_kernels(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Lets a model run by kernels that were found not to crash."""
    if device.type != "cpu" or getattr(model, MARK, None) is not Layout.PLAIN:
        yield
        return
    with _onednn(enabled=False):
        yield


@contextlib.contextmanager
def usual_kernels() -> Iterator[None]:
    """Lets what runs inside another model's training choose its kernels as it would alone: its results are kept."""
    if bool(torch.backends.mkldnn.enabled) == USUAL:
        yield
        return
    with _onednn(enabled=USUAL):
        yield


@contextlib.contextmanager
def _onednn(*, enabled: bool) -> Iterator[None]:
    flags = torch.backends.mkldnn.flags(enabled=enabled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch speaks of Intel GPUs whenever a flag of oneDNN is touched
        flags.__enter__()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flags.__exit__(None, None, None)


def require_safe(model: nn.Module, device: torch.device) -> None:
    """Keeps a model that is about to be trained channels last from kernels that crash, where it has layers for them.

    Pruning makes such layers, and a twin, which is always channels last, has them of its own.

    Args:
        model: On `device`; it is laid out anew, or marked for `safe_kernels`.
        device: GPUs have other kernels.
    """
    channels_last = getattr(model, MARK, None) is Layout.CHANNELS_LAST
    if device.type != "cpu" or not channels_last or not may_crash(narrow_strides(model)):
        return
    if hasattr(model, OWN_STRIDES):
        setattr(model, MARK, Layout.PLAIN)
        return
    for kept in (*model.parameters(), *model.buffers()):
        kept.data = as_usual(kept.data)
    setattr(model, MARK, Layout.CONTIGUOUS)


@cache
def may_crash(narrow: tuple[tuple[int, ...], ...]) -> bool:
    """Returns whether training one of these layers channels last crashes here, tried in a child process.

    The gradient of their filters writes beyond its buffer. Whether that is noticed depends on what lies there: with
    large pictures the process ends, with small ones other numbers are wrong. So it is large ones that are tried.
    """

    def train(tell: Tell) -> None:
        for channels, filters, *stride in sorted(set(narrow)):
            for outputs, side, samples in ((filters, 224, 4), *LARGE_TRIALS):
                layer = nn.Conv2d(channels, outputs, 1, (stride[0], stride[-1])).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                x = torch.randn(samples, channels, side, side).contiguous(memory_format=torch.channels_last)
                layer(x.requires_grad_()).sum().backward()
        tell("d")

    return bool(narrow) and attempt(train).told != "d"


def narrow_strides(model: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Returns input channels and filters of the layers that are known to crash: strided 1x1 convolutions of few."""
    own = getattr(model, OWN_STRIDES, None)
    if own is not None:
        return tuple(own)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d)]
    shapes = [(layer.in_channels // layer.groups, layer.out_channels, *layer.stride) for layer in layers]
    small = [set(layer.kernel_size) == {1} and max(layer.stride) > 1 for layer in layers]
    return tuple(s for s, one in zip(shapes, small, strict=True) if one and s[0] < SAFE_CHANNELS)


def _in_this_process(model: nn.Module, x: torch.Tensor, device: torch.device, input_shape: tuple[int, ...]) -> str:
    told: list[str] = []
    # Whatever a user's module raises, or refuses to be copied by, shows that it takes no other layout than its own.
    with contextlib.suppress(Exception), torch.random.fork_rng():
        _compare(copy.deepcopy(model).to(device), x.to(device), input_shape, told.append)
    return "".join(told)


def _compare(
    model: nn.Module,
    x: torch.Tensor,
    input_shape: tuple[int, ...],
    tell: Tell,
    formats: tuple[torch.memory_format, ...] = FORMATS,
) -> None:
    """Tells `c` when the model has run contiguous, `l` when it gave the same channels last."""
    kept = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    found = []
    for memory_format in formats:
        model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
        last = memory_format is torch.channels_last and x.ndim == PICTURES
        batch = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if last else as_usual(x)
        found.append(_results(model, batch))
        arithmetic = autocast(x.device, input_shape)
        if not isinstance(arithmetic, contextlib.nullcontext):
            with arithmetic:
                _results(model, batch)
        for name, value in model.state_dict().items():
            if name in kept:
                value.copy_(kept[name])
        if not tell_apart(found[0], found[-1]):
            tell("c" if len(found) == 1 else "l")


Results = tuple[list[torch.Tensor], list[torch.Tensor]]


def _results(model: nn.Module, x: torch.Tensor) -> Results:
    """Returns the outputs in both modes, and the gradients of some loss."""
    seed_all(0)
    model.eval()
    with torch.no_grad():
        scored = model(x.clone())
    model.train()
    for module in model.modules():  # what falls out goes by the order in memory
        if isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001 - all of them
            module.eval()
    model.zero_grad(set_to_none=True)
    outputs = model(x.clone())
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)).to(outputs.device)
    (outputs.float() * weights).sum().backward()
    gradients = [p.grad.detach().float() for p in model.parameters() if p.grad is not None]
    return [scored.float(), outputs.detach().float()], gradients


def tell_apart(one: Results, other: Results) -> bool:
    """Returns whether outputs or gradients differ by more than rounding, or are no numbers."""
    if len(one[1]) != len(other[1]):
        return True
    whole = sum(float(gradient.square().sum()) for gradient in one[1]) ** 0.5
    pairs = [(a, b, SAME_OUTPUTS * float(a.norm())) for a, b in zip(one[0], other[0], strict=True)]
    pairs += [(a, b, SAME_GRADIENTS * float(a.norm()) + NOTHING * whole) for a, b in zip(one[1], other[1], strict=True)]
    return not all(a.shape == b.shape and float((a - b).norm()) <= limit + 1e-12 for a, b, limit in pairs)
