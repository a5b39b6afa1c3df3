"""Hidden units of recurrent layers as prunable roots.

A unit is a row of every gate, a column of what the gates read of the last step, and a column of the next layer. A layer
has one hidden size for all its levels and both directions, so the same places go from each.

torch-pruning cannot follow time steps. While it traces a model, each recurrent layer is stood in for by linear layers,
one per direction, whose outputs stand for the hidden units: what reads the units, or adds to them, is found as behind
any other layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from edgecompress.pruning.slices import kept

#: Layers whose units can go: nn.RNN, nn.GRU, nn.LSTM and their cells.
RECURRENT = (nn.RNNBase, nn.RNNCellBase)

#: Under this name the stand-ins are registered while a model is traced.
STAND_IN = "edgecompress_stand_in"


class StandIns:
    """The linear layers that stood in for recurrent ones.

    Attributes:
        layers: Stand-in -> the recurrent layer; the second one of a layer with two directions as well.
        first: Recurrent layer -> its first stand-in.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.layers: dict[nn.Module, nn.Module] = {}
        self.first: dict[nn.Module, nn.Linear] = {}

    def real(self, module: Any) -> Any:
        """Returns the recurrent layer that a stand-in stands for; other modules are returned as they are."""
        return self.layers.get(module, module) if isinstance(module, nn.Module) else module


@contextlib.contextmanager
def stand_ins(model: nn.Module) -> Iterator[StandIns]:
    """Lets a model be traced with linear layers in the place of recurrent ones; the model comes back as it was."""
    found = StandIns()
    layers = [module for module in model.modules() if isinstance(module, RECURRENT)]
    try:
        for layer in layers:
            weight = next(layer.parameters())
            made = nn.ModuleList(
                nn.Linear(layer.input_size, _width(layer), device=weight.device, dtype=weight.dtype)
                for _ in range(directions(layer))
            )
            layer.add_module(STAND_IN, made)
            found.first[layer] = made[0]  # type: ignore[assignment]
            found.layers.update(dict.fromkeys(made, layer))
            step: Any = _cell_step if isinstance(layer, nn.RNNCellBase) else _sequence
            layer.forward = partial(step, layer, made)
        yield found
    finally:
        for layer in layers:
            layer._modules.pop(STAND_IN, None)  # noqa: SLF001 - as if it had never been there
            vars(layer).pop("forward", None)


def _sequence(layer: nn.RNNBase, made: nn.ModuleList, x: Any, hx: Any = None) -> Any:
    """Returns what a recurrent layer does, in shape and in who depends on whom."""
    packed = isinstance(x, PackedSequence)
    data = x.data if packed else x
    time = 1 if layer.batch_first and data.dim() == 3 else 0  # noqa: PLR2004 - (batch, length, width) in some order
    outputs = [one(data) for one in made]
    start = _sum(hx)
    if start is not None and not packed:
        outputs = [each + start.sum(0).unsqueeze(time) for each in outputs]
    # Both directions have one hidden size: whatever goes from one goes from the other.
    tied = [sum(outputs[1:], outputs[0]) for _ in outputs]
    output = torch.cat(tied, dim=-1) if len(tied) > 1 else tied[0]
    if packed:
        count = int(x.batch_sizes[0])
        last = [each.index_select(0, torch.arange(count, device=data.device)) for each in tied]
    else:
        last = [each.select(time, -1) for each in tied]
    state: Any = torch.stack(last * layer.num_layers)
    if isinstance(layer, nn.LSTM):
        state = (state, state + 0.0)
    return (PackedSequence(output, *x[1:]) if packed else output), state


def _cell_step(layer: nn.RNNCellBase, made: nn.ModuleList, x: torch.Tensor, hx: Any = None) -> Any:
    output = made[0](x)
    start = _sum(hx)
    if start is not None:
        output = output + start
    return (output, output + 0.0) if isinstance(layer, nn.LSTMCell) else output


def _sum(hx: Any) -> torch.Tensor | None:
    """Returns an initial state, an LSTM's two added up."""
    state: torch.Tensor | None = hx[0] + hx[1] if isinstance(hx, tuple) else hx
    return state


def directions(layer: nn.Module) -> int:
    """Returns in how many directions a recurrent layer reads."""
    return 2 if getattr(layer, "bidirectional", False) else 1


def unfit_units(layer: nn.Module) -> str:
    """Returns why a recurrent layer keeps its units, "" where it need not."""
    return "projects its hidden units" if getattr(layer, "proj_size", 0) else ""


def units_of(layer: nn.Module, axis: Literal["out", "in"]) -> int:
    """Returns the hidden units of a recurrent layer, or the features it reads."""
    size: int = layer.hidden_size if axis == "out" else layer.input_size  # type: ignore[assignment]
    return size


def weights_of(layer: nn.Module) -> Iterator[tuple[nn.Parameter, bool, bool]]:
    """Yields each weight matrix, whether it reads hidden units (not the layer's input), and whether the next steps do.

    The second says that its columns are hidden units; the third that they are those of both directions side by side.
    """
    for name, parameter in layer.named_parameters(recurse=False):
        if name.startswith("weight_ih"):
            below = "_l" in name and not name.removesuffix("_reverse").endswith("_l0")
            yield parameter, below, below and directions(layer) > 1
        elif name.startswith("weight_hh"):
            yield parameter, True, False


def per_unit(
    layer: nn.Module, axis: Literal["out", "in"], values: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Returns sums over the weights of each hidden unit, or of each feature that a recurrent layer reads.

    Args:
        layer: The recurrent layer.
        axis: `out` for units, `in` for features.
        values: Gives a number for each weight of a matrix.
    """
    units, total = units_of(layer, "out"), None
    for parameter, hidden, _ in weights_of(layer):
        numbers = values(parameter)
        if axis == "out":
            parts = numbers.reshape(-1, units, numbers.shape[1]).sum((0, 2))
            if hidden:
                parts = parts + numbers.sum(0).reshape(-1, units).sum(0)
        elif not hidden:
            parts = numbers.sum(0)
        else:
            continue
        total = parts if total is None else total + parts
    assert total is not None  # noqa: S101 - a recurrent layer has weights for its input
    return total


def cost_of(layer: nn.Module, macs: int) -> tuple[tuple[int, int, int], tuple[float, float]]:
    """Returns what a recurrent layer costs, by how it shrinks.

    Args:
        layer: The recurrent layer.
        macs: Its multiply-accumulates.

    Returns:
        Parameters in proportion to units and features, to units alone, and to the square of the units;
        multiply-accumulates in proportion to units and features, and to the square of the units.
    """
    both = sum(parameter.numel() for parameter, hidden, _ in weights_of(layer) if not hidden)
    square = sum(parameter.numel() for parameter, hidden, _ in weights_of(layer) if hidden)
    every = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
    # Each weight is used once a step.
    return (both, every - both - square, square), (macs * both / (both + square), macs * square / (both + square))


def cut_units(layer: nn.Module, gone: Iterable[int]) -> None:
    """Removes hidden units from a recurrent layer, in place: from all its levels and directions, and their readers."""
    units = units_of(layer, "out")
    removed = set(gone)
    keep = [unit for unit in range(units) if unit not in removed]
    reads = {id(parameter): (hidden, both) for parameter, hidden, both in weights_of(layer)}
    for name, parameter in list(layer.named_parameters(recurse=False)):
        rows = [gate * units + unit for gate in range(parameter.shape[0] // units) for unit in keep]
        left = kept(parameter, rows, 0)
        hidden, both = reads.get(id(parameter), (False, False))
        if hidden:
            columns = [part * units + unit for part in range(2 if both else 1) for unit in keep]
            left = kept(left, columns, 1)
        setattr(layer, name, left)
    layer.hidden_size = len(keep)  # type: ignore[assignment]


def cut_features(layer: nn.Module, gone: Iterable[int]) -> None:
    """Removes features that a recurrent layer reads, in place."""
    removed = set(gone)
    keep = [feature for feature in range(units_of(layer, "in")) if feature not in removed]
    names = {id(parameter): name for name, parameter in layer.named_parameters(recurse=False)}
    for parameter, hidden, _ in list(weights_of(layer)):
        if not hidden:
            setattr(layer, names[id(parameter)], kept(parameter, keep, 1))
    layer.input_size = len(keep)  # type: ignore[assignment]


def renew(layer: nn.Module) -> None:
    """Lets a recurrent layer of several levels use the parameters it holds now, after they were exchanged."""
    if isinstance(layer, nn.RNNBase):
        names = layer._flat_weights_names  # noqa: SLF001 - the list that torch's kernels are given
        layer._flat_weights = [getattr(layer, name) for name in names]  # noqa: SLF001


@torch.no_grad()
def silence_units(layer: nn.Module, axis: Literal["out", "in"], places: Iterable[int]) -> None:
    """Sets to zero, in place, every weight of some units or features."""
    units = units_of(layer, "out")
    chosen = sorted(set(places))
    reads: Mapping[int, tuple[bool, bool]] = {id(p): (hidden, both) for p, hidden, both in weights_of(layer)}
    for parameter in layer.parameters(recurse=False):
        hidden, both = reads.get(id(parameter), (False, False))
        if axis == "in":
            if id(parameter) in reads and not hidden:
                parameter[:, chosen] = 0.0
            continue
        parameter[[gate * units + unit for gate in range(parameter.shape[0] // units) for unit in chosen]] = 0.0
        if hidden:
            parameter[:, [part * units + unit for part in range(2 if both else 1) for unit in chosen]] = 0.0


def _width(layer: nn.Module) -> int:
    return getattr(layer, "proj_size", 0) or units_of(layer, "out")
