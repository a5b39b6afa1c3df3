"""The grids that a twin's weights and biases lie on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from edgecompress.quantization.graph.graph import Graph
from edgecompress.quantization.grids.codebooks import fake_clustered
from edgecompress.quantization.grids.fake import MIN_WEIGHT_SCALE, fake_bias, fake_weight, symmetric_scale, weight_qmax
from edgecompress.quantization.grids.portable import LARGEST, UNIT, below_powers
from edgecompress.quantization.grids.ranges import INT8, INT16, RangeGroup

#: An INT32 bias must leave room for the sum of products that is added to it.
BIAS_LIMIT = float(2**30)
INT32_BITS = 32

T = TypeVar("T")


class WeightGrids(nn.Module):
    """The part of a twin that knows its weights.

    Attributes:
        graph: The flatbuffer's operators and tensors.
        groups: Activation ranges; each is shared by the tensors that carry one scale.
        group_of: Tensor number -> number of its group.
        quantizing: Whether values and weights are fake-quantized; off, the twin is the float model.
        weights: Tensor number, as text -> float values of a weight or bias, as the flatbuffer lays them out.
        constants: Tensor number -> values of the other constants.
        biases: Bias tensor's number -> its weights' and its input's.
        codebooks: Weight tensor's number -> the only integers it may have; others are rounded to all there are.
        masks: Weight tensor's number, as text -> ones where `hold_zeros` found weights that are not zero.
        portable: Weight tensor that lies where all kernels round alike -> groups of its layer's input and output.
    """

    graph: Graph
    groups: list[RangeGroup]
    group_of: dict[int, int]
    quantizing: bool
    weights: nn.ParameterDict
    constants: dict[int, torch.Tensor]
    biases: dict[int, tuple[int, int]]
    codebooks: dict[int, torch.Tensor]
    portable: dict[int, tuple[int, int]]
    masks: dict[str, torch.Tensor]
    _known: dict[tuple[str, int], Any] | None = None

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Works out scales and rounded weights once while inside: neither weights nor ranges may change there.

        Where gradients are asked for, each use gets its own.
        """
        before = self._known
        if torch.is_grad_enabled():
            self._known = None
        elif before is None:
            self._known = {}
        try:
            yield
        finally:
            self._known = before

    def once(self, what: str, n: int, make: Callable[[int], T]) -> T:
        """Returns what is made of a tensor or an operator, by its number; once while `settled`."""
        if self._known is None:
            return make(n)
        if (what, n) not in self._known:
            self._known[what, n] = make(n)
        found: T = self._known[what, n]
        return found

    def weight_scale(self, n: int) -> torch.Tensor:
        """Returns the scales of a weight tensor: largest magnitude per channel / 127, 126 (portable) or 7 (symmetric).

        A channel whose weights are all but zero would get a scale so small that its bias does not fit INT32 (older
        runtimes refuse such a file); its scale is raised until the bias fits.
        """
        return self.once("scale", n, self._weight_scale)

    def range_of(self, n: int) -> RangeGroup | None:
        """Returns the range of an activation, or of a constant with one scale for all; None for anything else."""
        if n in self.group_of:
            return self.groups[self.group_of[n]]
        spec = self.graph.tensors[n]
        if n not in self.constants or len(spec.scale) != 1 or spec.dtype not in (INT8, INT16):
            return None
        return RangeGroup((n,), (), True, float(spec.scale[0]), int(spec.zero_point[0]), dtype=spec.dtype)

    def _weight_scale(self, n: int) -> torch.Tensor:
        spec = self.graph.tensors[n]
        qmax = LARGEST if n in self.portable else weight_qmax(spec)
        scale = symmetric_scale(self.weights[str(n)], spec.axis if len(spec.scale) > 1 else None, qmax)
        least = torch.full_like(scale, MIN_WEIGHT_SCALE)
        for bias, (owner, source) in self.biases.items():
            if owner == n and source in self.group_of and self.graph.tensors[bias].bits <= INT32_BITS:
                fits = self.weights[str(bias)].detach().abs() / (self.groups[self.group_of[source]].scale * BIAS_LIMIT)
                least = torch.maximum(least, fits if len(scale) > 1 else fits.amax().reshape(1))
        scale = torch.maximum(scale, least)
        return self._portable_scale(n, scale, least) if n in self.portable else scale

    def _portable_scale(self, n: int, scale: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
        """Returns scales for which all kernels round alike: of the two next to `scale` the one of smaller error.

        The lower one clips the largest weights, which is worth it where these are just beyond its reach.
        """
        source, sink = self.portable[n]
        high = below_powers(scale, self.groups[source].scale / self.groups[sink].scale)
        weight, axis = self.weights[str(n)].detach(), self.graph.tensors[n].axis
        axes = [d for d in range(weight.ndim) if d != axis or len(high) == 1]
        both = [high, high / 2]  # halved, a multiplier is as far below the next power of two
        fakes = (fake_weight(weight, UNIT * one, axis, LARGEST // UNIT) for one in both)
        errors = [(fake - weight).square().sum(axes).reshape(-1) for fake in fakes]
        return torch.where((errors[1] < errors[0]) & (both[1] >= least), both[1], both[0])

    def weight_grid(self, n: int) -> tuple[torch.Tensor, int]:
        """Returns the steps between the values that a weight tensor may have, and how many of them each way."""
        if n in self.portable:
            return UNIT * self.weight_scale(n), LARGEST // UNIT
        return self.weight_scale(n), weight_qmax(self.graph.tensors[n])

    def bias_scale(self, n: int) -> torch.Tensor:
        """Returns the scales of a bias tensor: those of its weights times the input's, as the kernels require."""
        owner, source = self.biases[n]
        return (self.weight_scale(owner).double() * self.groups[self.group_of[source]].scale).float()

    def fake_weight(self, n: int) -> torch.Tensor:
        """Returns a weight or bias on its grid."""
        weight: torch.Tensor = self.weights[str(n)]
        spec = self.graph.tensors[n]
        if not self.quantizing or not spec.quantized:
            return weight
        return self.once("weight", n, self._fake_weight)

    def _fake_weight(self, n: int) -> torch.Tensor:
        weight: torch.Tensor = self.weights[str(n)]
        spec = self.graph.tensors[n]
        if n in self.codebooks:
            return fake_clustered(weight, self.weight_scale(n), spec.axis, self.codebooks[n])
        if n not in self.biases:
            step, qmax = self.weight_grid(n)
            return fake_weight(weight, step, spec.axis, qmax)
        if self.biases[n][1] not in self.group_of:
            return weight
        return fake_bias(weight, self.bias_scale(n), uneven=self.biases[n][0] in self.portable)

    def hold_zeros(self) -> None:
        """Remembers which weights are zero, for `apply_masks` to keep them so through training."""
        self.masks = {
            key: (weight.detach() != 0).to(weight.dtype)
            for key, weight in self.weights.items()
            if int(key) not in self.biases
        }
        for key, mask in self.masks.items():  # so that an optimizer has nothing to remember of them either
            self.weights[key].register_hook(mask.mul)

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Sets the remembered zeros again."""
        for key, mask in self.masks.items():
            self.weights[key].mul_(mask.to(self.weights[key].device))
