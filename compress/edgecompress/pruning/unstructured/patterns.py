"""Where zeros may lie: anywhere, N of M neighbours kept, or in blocks.

Neighbours are input channels at one place of the kernel, which lie side by side in a flatbuffer's weights.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch

_N_OF_M = re.compile(r"(\d+):(\d+)")
_BLOCK = re.compile(r"1x(\d+)")


@dataclass(frozen=True)
class Pattern:
    """Where zeros may lie.

    Attributes:
        size: Neighbours that are looked at together; 1 where zeros may lie anywhere.
        kept: How many of them stay (N of M); 0 where all of them go or stay together (a block).
    """

    size: int = 1
    kept: int = 0

    @classmethod
    def named(cls, name: str | None) -> Pattern:
        """Returns the pattern of a name: `2:4` keeps two of four, `1x4` has blocks of four; None: anywhere.

        Raises:
            ValueError: There is no such pattern.
        """
        if name is None:
            return cls()
        if match := _N_OF_M.fullmatch(name):
            kept, size = int(match[1]), int(match[2])
            if 0 < kept < size:
                return cls(size, kept)
        if (match := _BLOCK.fullmatch(name)) and int(match[1]) > 1:
            return cls(int(match[1]))
        raise ValueError(f"expected a pattern such as 2:4 or 1x4, got {name}")

    @property
    def share(self) -> float | None:
        """The share of zeros that N of M makes in the layers it fits, None where any share can be asked."""
        return 1.0 - self.kept / self.size if self.kept else None

    def fits(self, weight: torch.Tensor) -> bool:
        """Returns whether a weight can have the pattern: whole groups of input channels for N of M, any for blocks."""
        return self.size == 1 or (weight.shape[1] % self.size == 0 if self.kept else weight.shape[1] > 1)

    def scores(self, scores: torch.Tensor) -> torch.Tensor:
        """Returns what weights are ranked by, for scores of single weights, (O, I, ...).

        The N largest of each M are out of reach (infinite); the weights of a block share their mean. What is pruned
        already (minus infinity) stays so in the first case, and comes in whole blocks in the second.
        """
        if self.size == 1:
            return scores
        rows = scores.movedim(1, -1)
        inputs = rows.shape[-1]
        padding = -inputs % self.size
        if self.kept:
            groups = rows.reshape(*rows.shape[:-1], -1, self.size)
            largest = groups.topk(self.kept, dim=-1).indices
            found = groups.scatter(-1, largest, math.inf).reshape(rows.shape)
            return torch.where(torch.isneginf(rows), rows, found).movedim(-1, 1)
        padded = torch.nn.functional.pad(rows, (0, padding))
        blocks = padded.reshape(*rows.shape[:-1], -1, self.size)
        sizes = torch.full((blocks.shape[-2], 1), float(self.size), dtype=rows.dtype)
        sizes[-1] -= padding
        means = (blocks.sum(-1, keepdim=True) / sizes).expand_as(blocks)
        return means.reshape(padded.shape)[..., :inputs].movedim(-1, 1)
