"""Recipes and small files that stand for users' data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecompress.recipe.schema import Recipe

RecipeOf = Callable[..., Recipe]


@pytest.fixture
def recipe_of(tmp_path: Path) -> RecipeOf:
    """Makes a recipe in the test's folder from keys of its `data` block."""

    def make(source: str, *, seed: int = 0, task: str = "image-classification", **data: Any) -> Recipe:
        return Recipe(
            version=1,
            task=task,
            seed=seed,
            student={"model": "resnet8"},
            data={"source": source, **data},
            base_dir=str(tmp_path),
        )

    return make


@pytest.fixture
def arrays() -> dict[str, Any]:
    """Arrays of a tidy npz: 30 + 12 colour pictures of 6x5 pixels in three classes."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (30, 6, 5, 3)).astype(np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": rng.integers(0, 256, (12, 6, 5, 3)).astype(np.uint8),
        "y_test": np.arange(12) % 3,
    }


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., np.ndarray]:
    """Writes a random picture below the test's folder and returns its values."""

    def write(name: str, shape: tuple[int, ...] = (4, 6, 3), seed: int = 0, **options: Any) -> np.ndarray:
        values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path, **options)
        return values

    return write
