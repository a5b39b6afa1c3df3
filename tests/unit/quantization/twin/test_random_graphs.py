"""Networks drawn at random, through the real converter and interpreter: the flatbuffer is the twin."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


@pytest.fixture(scope="module")
def random_graphs() -> ModuleType:
    """The script that runs two hundred of them."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("random_graphs", BENCHMARKS / "random_graphs.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


# Seeds 1 and 3 have leaky activations, 1 a gate and a concatenation, 2 a sum, 3 hard swish.
@pytest.mark.parametrize("seed", [1, 2, 3, 5, 8])
def test_flatbuffer_is_the_twin(random_graphs: ModuleType, seed: int, tmp_path: Path) -> None:
    found = random_graphs.measure(seed, tmp_path, samples=300)
    assert found["p999_steps"] <= 2.01, found
    assert found["mean_steps"] < 0.5, found
    assert found["all_int8"], found
    assert found["operators"] >= 5
