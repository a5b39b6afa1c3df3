"""Parameters and multiply-accumulates (MACs) of a model, counted by running it once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edgecompress.models.blame import blaming


@dataclass(frozen=True)
class LayerCount:
    """One leaf layer with weights.

    Attributes:
        name: Its path in the model.
        kind: Its class name.
        params: Its parameters.
        macs: Its multiply-accumulates for one sample, all its calls together.
        output_shape: Of its last call, batch axis first.
    """

    name: str
    kind: str
    params: int
    macs: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Counts:
    """Counts for one sample.

    Attributes:
        params: Parameters, shared ones once.
        nonzero_params: Those that are not zero.
        macs: Multiply-accumulates of convolutions, linear layers and matrix products, functional ones included.
        layers: One entry per convolution or linear layer, in the order of execution.
        modules: Path of any module -> the multiply-accumulates within it.
    """

    params: int
    nonzero_params: int
    macs: int
    layers: tuple[LayerCount, ...] = ()
    modules: Mapping[str, int] = field(default_factory=dict)


def count(model: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Counts:
    """Returns parameters, non-zero parameters and MACs of a model for one sample of `input_shape`.

    The model runs once in evaluation mode on zeros; its mode is restored.
    """
    seen: dict[str, LayerCount] = {}
    hooks = [
        module.register_forward_hook(_recorder(name, seen))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)  # noqa: SLF001 - the common base of all convolutions
    ]
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.modules()}
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    try:
        for parameter in learned:  # one that is given to a layer as its input would be asked for its history
            parameter.requires_grad = False
        with (
            blaming(model, "while its multiplications were counted"),
            torch.no_grad(),
            _plain_kernels(),
            FlopCounterMode(display=False) as counter,
        ):
            model(torch.zeros(1, *input_shape, device=device, dtype=dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        for parameter in learned:
            parameter.requires_grad = True
    parameters = list(model.parameters())
    return Counts(
        params=sum(parameter.numel() for parameter in parameters),
        nonzero_params=sum(int(torch.count_nonzero(parameter)) for parameter in parameters),
        macs=counter.get_total_flops() // 2,
        layers=tuple(seen.values()),
        modules=_by_module(model, counter),
    )


def _by_module(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    """Returns the multiply-accumulates within each module; those that were not run, or multiply nothing, have none."""
    counts = counter.get_flop_counts()
    root = type(model).__name__
    macs = {name: sum(operators.values()) // 2 for name, operators in counts.items()}
    return {
        path: macs[name]
        for path, _ in model.named_modules()
        if (name := f"{root}.{path}" if path else root) in macs
    }  # fmt: skip


@contextlib.contextmanager
def _plain_kernels() -> Iterator[None]:
    """Keeps torch from running a whole layer (LSTM, attention) as one operator, which the counter cannot look into."""
    fast, fused = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.mkldnn.enabled = fused


def _recorder(name: str, seen: dict[str, LayerCount]) -> Any:
    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = cast(torch.Tensor, module.weight)
        # A transposed convolution multiplies every input value, the others make every output value.
        transposed = getattr(module, "transposed", False)
        macs = (inputs[0].numel() if transposed else output.numel()) * weight[0].numel()
        before = seen[name].macs if name in seen else 0
        params = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        seen[name] = LayerCount(name, type(module).__name__, params, before + macs, tuple(output.shape))

    return record
