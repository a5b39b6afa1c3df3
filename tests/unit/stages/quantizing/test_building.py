"""Which networks are quantized with other operators than they came with."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.recipe.schema import QuantizeSpec
from edgecompress.stages.quantizing.building import pace, readied
from tests.unit.made_flatbuffer import Made, Op, make_bytes


@pytest.mark.parametrize(
    ("block", "runtime", "how"),
    [
        ({"mode": "ptq"}, "litert", "swift"),
        ({"mode": "qat"}, "litert", "swift, apart"),
        ({"mode": "ptq", "max_drop_points": 1.0, "escalate": "qat"}, "litert", "swift, apart"),
        ({"mode": "ptq", "portable": True}, "litert", "as it is"),
        ({"mode": "ptq", "activations": "int16"}, "litert", "as it is"),
        ({"mode": "ptq", "activations": "dynamic"}, "litert", "as it is"),
        ({"mode": "ptq"}, "tflite-micro", "as it is"),
        ({"mode": "ptq"}, "tensorflow", "swift"),
    ],
)
def test_operators_are_spelled_out_where_that_is_fast(block: dict[str, Any], runtime: str, how: str) -> None:
    assert pace(QuantizeSpec(**block), runtime) == how


def test_what_is_left_as_it_is_keeps_its_bytes() -> None:
    content = make_bytes([Made((1, 4), name="x"), Made((1, 4), name="y")], [Op("HARD_SWISH", (0,), (1,))])
    assert readied(content, "as it is") == content
    assert readied(content, "swift") != content
