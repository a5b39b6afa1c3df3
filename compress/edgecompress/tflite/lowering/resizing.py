"""Sizes changed by mixtures that do not depend on the values: a product with a constant matrix along each side.

INT8 products sum up in INT32 and round once, and have a kernel; what the converter makes of these operators has none.
Exported programs take no new constants here, so the matrices are formulas, which the converter works out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten
#: Of Keys' cubic (1981), as antialiasing takes it.
CUBIC = -0.5
Lowered = Callable[[torch.Tensor, Sequence[int] | None, bool, Sequence[float] | None], Any]
#: Distances in steps of the coarser grid -> shares, but for a factor.
Kernel = Callable[[torch.Tensor], torch.Tensor]


def triangle(distance: torch.Tensor) -> torch.Tensor:
    """Returns the shares of linear interpolation."""
    return torch.relu(1.0 - distance)


def cubic(distance: torch.Tensor) -> torch.Tensor:
    """Returns the shares of cubic interpolation: its two pieces as powers of what is left to 1 and to 2."""
    near, far = torch.relu(1.0 - distance), torch.relu(2.0 - distance)
    return CUBIC * (1.0 - far) * far * far + (4.0 * CUBIC + 3.0) * near * near - 2.0 * near * near * near


def by_matrices(kernel: Kernel = triangle, *, sides: int, antialias: bool = False) -> Lowered:
    """Returns what a resizing operator becomes.

    Args:
        kernel: How it mixes.
        sides: How many sides it resizes.
        antialias: Whether it takes more places the smaller the result gets.
    """

    def lowered(
        x: torch.Tensor, output_size: Sequence[int] | None, align_corners: bool, scale_factors: Sequence[float] | None
    ) -> torch.Tensor:
        factors = list(scale_factors or [])
        for place in range(sides):
            axis = place - sides
            size = int(x.shape[axis])
            wanted = int(output_size[place]) if output_size is not None else int(size * factors[place])
            if align_corners:
                step = (size - 1) / (wanted - 1) if wanted > 1 else 0.0
            else:
                step = 1.0 / factors[place] if factors and factors[place] > 0 else size / wanted
            if wanted == size and step == 1:
                continue
            shares = _shares(kernel, size, wanted, step, shifted=antialias or not align_corners, antialias=antialias)
            x = torch.movedim(aten.matmul.default(torch.movedim(x, axis, -1), shares), -1, axis)
        return x

    return lowered


def _shares(kernel: Kernel, size: int, wanted: int, step: float, *, shifted: bool, antialias: bool) -> torch.Tensor:
    """Returns what each place of the input, row by row, gives to each of the output.

    Args:
        kernel: How places are mixed.
        size: Of the input.
        wanted: Size of the output.
        step: From one place of the output to the next, in places of the input.
        shifted: Whether the middles of places count, and not their beginnings.
        antialias: Whether the kernel grows with the step; then it is cut off at the borders, where others take the
            last place again.
    """
    places = torch.arange(wanted, dtype=torch.float32)
    places = (places + 0.5) * step - 0.5 if shifted else places * step
    if not antialias:
        places = places.clamp(0.0, size - 1.0)
    distance = (torch.arange(size, dtype=torch.float32).unsqueeze(1) - places).abs()
    if not antialias:
        return kernel(distance)
    shares = kernel(distance * (1.0 / max(step, 1.0)))
    return shares / shares.sum(0, keepdim=True)


def bilinear(
    x: torch.Tensor, output_size: Sequence[int] | None, align_corners: bool, scale_factors: Sequence[float] | None
) -> Any:
    """Keeps the operator where it goes by the sizes, as the flatbuffer's does, and not by a scale that is another."""
    given = zip(x.shape[-2:], scale_factors or (), strict=False)
    if align_corners or all(float(int(size) * scale).is_integer() for size, scale in given):
        return NotImplemented
    return by_matrices(sides=2)(x, output_size, align_corners, scale_factors)
