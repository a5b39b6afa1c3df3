"""A calibrated twin for every test that changes it."""

from __future__ import annotations

import pytest

from edgecompress.quantization.twin.twin import Twin
from tests.unit.converted_net import Converted, images


@pytest.fixture
def twin(converted: Converted) -> Twin:
    """A calibrated twin."""
    twin = converted.twin()
    twin.calibrate([images(64)])
    return twin
