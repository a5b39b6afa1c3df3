"""Shared by the model tests: one thread, and a short way to build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecompress.models.building import build_model
from edgecompress.recipe.schema import ModelSpec

Build = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds a model whose recipe lies in tmp_path."""

    def make(
        model: str,
        shape: tuple[int, ...] = (3, 32, 32),
        classes: int = 10,
        *,
        seed: int = 0,
        trust: bool = False,
        fine_tune: bool | None = None,
        **block: object,
    ) -> nn.Module:
        spec = ModelSpec.model_validate({"model": model, **block})
        return build_model(spec, shape, classes, trust=trust, base_dir=tmp_path, seed=seed, fine_tune=fine_tune)

    return make
