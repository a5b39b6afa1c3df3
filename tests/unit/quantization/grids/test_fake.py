"""Constants lie on their grid in the twin as they do in the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgecompress.quantization.grids.fake import fake_constant
from edgecompress.quantization.grids.ranges import RangeGroup, scale_and_zero_point


@pytest.mark.parametrize("count", [5, 16, 32, 101])
def test_evenly_spaced_constants_are_what_the_file_holds(count: int) -> None:
    """Many of them are halfway between two integers, where float32 rounds otherwise than float64."""
    values = np.linspace(-1, 1, count, dtype=np.float32)
    group = RangeGroup((0,), (0,), True, *scale_and_zero_point(-1.0, 1.0))
    found = fake_constant(torch.from_numpy(values), group.scale, group.zero_point, group.dtype)
    stored = (group.integers(values).astype(np.float64) - group.zero_point) * group.scale
    np.testing.assert_array_equal(found.numpy(), stored.astype(np.float32))


def test_what_lies_beyond_is_clipped() -> None:
    found = fake_constant(torch.tensor([-torch.inf, -3e38, 0.0, torch.inf]), 0.5, 3, np.dtype(np.int8))
    assert found.tolist() == [-65.5, -65.5, 0.0, 62.0]
