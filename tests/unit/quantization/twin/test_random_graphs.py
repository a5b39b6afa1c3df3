"""Networks drawn at random, through the real converter and interpreter: the flatbuffer is the twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quantization import random_graphs


# Seeds 1 and 3 have leaky activations, 1 a gate and a concatenation, 2 a sum, 3 hard swish.
@pytest.mark.parametrize("seed", [1, 2, 3, 5, 8])
def test_flatbuffer_is_the_twin(seed: int, tmp_path: Path) -> None:
    found = random_graphs.measure(seed, tmp_path, samples=300)
    assert found["p999_steps"] <= 2.01, found
    assert found["mean_steps"] < 0.5, found
    assert found["all_int8"], found
    assert found["operators"] >= 5
