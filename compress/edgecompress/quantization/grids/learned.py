"""Activation scales that are learned with the weights.

Source: Esser et al. 2020, "Learned Step Size Quantization" (arXiv 1902.08153): equations 1 to 3, and the gradient scale
of section 2.2. Zero points stay where calibration put them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from edgecompress.quantization.grids.ranges import RangeGroup

#: A scale is learned as the logarithm of its ratio to the calibrated one, in these units: optimizers that make steps of
#: about the learning rate (Adam) would otherwise hardly move it at the small rates that suit folded weights.
LOG_UNIT = 10.0
#: Scales stay within this factor of the calibrated one.
FARTHEST = 8.0


class LearnedScales(nn.Module):
    """Scales of range groups, as parameters."""

    def __init__(self, groups: Sequence[RangeGroup], kept: set[int], device: torch.device) -> None:
        """Starts from the groups' present scales.

        Args:
            groups: All of a twin's.
            kept: Numbers of those that are not learned; fixed ones are not either.
            device: Where the twin is.
        """
        super().__init__()
        self._groups = groups
        self._start = {k: g.scale for k, g in enumerate(groups) if k not in kept and not g.fixed}
        self.logs = nn.ParameterDict({str(k): nn.Parameter(torch.zeros(1, device=device)) for k in self._start})

    def __contains__(self, k: int) -> bool:
        """Returns whether group `k` is learned."""
        return k in self._start

    def scale(self, k: int) -> torch.Tensor:
        """Returns a group's scale, (1,); the gradient reaches the parameter."""
        limit = math.log(FARTHEST) / LOG_UNIT
        return self._start[k] * torch.exp(LOG_UNIT * self.logs[str(k)].clamp(-limit, limit))

    def fake(self, k: int, x: torch.Tensor) -> torch.Tensor:
        """Returns activations on the grid of a group; rounding passes the gradient on, clipping stops it."""
        group = self._groups[k]
        scale = self.scale(k).clamp_min(max(group.least_scale, 1e-10))
        share = 1.0 / math.sqrt(max(x.numel() // max(len(x), 1), 1) * group.qmax)
        scale = scale.detach() + share * (scale - scale.detach())
        steps = x / scale
        steps = steps + (torch.round(steps) - steps).detach()
        return steps.clamp(group.qmin - group.zero_point, group.qmax - group.zero_point) * scale

    @torch.no_grad()
    def store(self) -> None:
        """Writes the scales into their groups."""
        for k in self._start:
            self._groups[k].set_scale(float(self.scale(k)))
