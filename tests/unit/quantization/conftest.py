"""A calibrated twin for every test that changes it."""

from __future__ import annotations

import pytest

from compress.quantization.twin import Twin

from ..converted_net import Converted, images


@pytest.fixture
def twin(converted: Converted) -> Twin:
    """A calibrated twin."""
    twin = converted.twin()
    twin.calibrate([images(64)])
    return twin
