"""Random changes to series that depend on nothing but (seed, view, position in the train split), as those to pictures.

`rotate` and `mirror` are for motion sensors, whose channels are the three axes of one instrument after the other. They
are what another way of wearing the device does to the same motion (Um et al. 2017, arXiv 1706.00527, for `rotate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.tasks.augment import uniform

#: `shift` moves by up to this share of the steps; what leaves at one end enters at the other.
SHIFT_SHARE = 1 / 4
#: `scale` multiplies each channel by a factor up to this far from 1.
SCALE_SHARE = 0.3
#: `rotate` turns by up to this angle, in radians (25 degrees).
LARGEST_ANGLE = 0.436
#: Axes of an instrument.
AXES = 3
#: What is left for right on a body: acceleration is a vector, rotation one that a mirror turns the other way.
MIRRORED = np.array([-1, 1, 1, 1, -1, -1], np.float32)
#: Each change, and the channels it needs: a multiple of the first number, exactly the second.
NEEDS: dict[str, tuple[int, int | None]] = {
    "shift": (1, None),
    "scale": (1, None),
    "rotate": (AXES, None),
    "mirror": (AXES, len(MIRRORED)),
}


def augment_series(
    series: NDArray[Any], index: NDArray[np.int64], *, changes: Sequence[str], seed: int, view: int
) -> NDArray[np.float32]:
    """Returns series moved in time, scaled, rotated and mirrored as `changes` say.

    Args:
        series: (N, steps, channels), as the source has them.
        index: Their positions in the train split.
        changes: Names of changes, of NEEDS.
        seed: The recipe's.
        view: Number of the view.
    """
    count, steps, channels = series.shape
    changed = series.astype(np.float32)
    if "shift" in changes:
        most = max(round(steps * SHIFT_SHARE), 1)
        by = np.floor(uniform(seed, view, "shift", index) * (2 * most + 1)).astype(np.int64) - most
        places = (np.arange(steps)[None, :] - by[:, None]) % steps
        changed = changed[np.arange(count)[:, None], places]
    if "scale" in changes:
        factors = [uniform(seed, view, f"scale-{channel}", index) for channel in range(channels)]
        changed = changed * (1 + SCALE_SHARE * (2 * np.stack(factors, 1) - 1))[:, None].astype(np.float32)
    if "rotate" in changes:
        turned = rotations(index, seed=seed, view=view)
        instruments = changed.reshape(count, steps, channels // AXES, AXES)
        changed = np.einsum("nsik,njk->nsij", instruments, turned).reshape(count, steps, channels)
    if "mirror" in changes:
        other = uniform(seed, view, "mirror", index) < 0.5  # noqa: PLR2004 - every other one
        changed = np.where(other[:, None, None], changed * MIRRORED, changed)
    return np.ascontiguousarray(changed, np.float32)


def rotations(index: NDArray[np.int64], *, seed: int, view: int) -> NDArray[np.float32]:
    """Returns (N, 3, 3) rotations by up to LARGEST_ANGLE about an axis anywhere (Rodrigues' formula)."""
    height = 2 * uniform(seed, view, "rotate-height", index) - 1
    around = 2 * np.pi * uniform(seed, view, "rotate-around", index)
    angle = LARGEST_ANGLE * (2 * uniform(seed, view, "rotate-angle", index) - 1)
    flat = np.sqrt(1 - height**2)
    x, y, z = flat * np.cos(around), flat * np.sin(around), height
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, AXES, AXES)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    turned: NDArray[np.float32] = (np.eye(AXES) + sine * cross + (1 - cosine) * (cross @ cross)).astype(np.float32)
    return turned
