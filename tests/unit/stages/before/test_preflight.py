"""What only data and models can tell is told before anything is trained: here, sizes that arithmetic rules out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.before.preflight import _check_size

#: 8 * 1000 + 1000 weights and biases: 8.8 KiB as INT8.
NET = nn.Sequential(nn.Flatten(), nn.Linear(8, 1000), nn.ReLU())


def check(size_kib: float | None, **blocks: Any) -> None:
    recipe = Recipe(version=1, student={"model": "resnet8"}, budget={"size_kib": size_kib}, **blocks)
    bench: Any = SimpleNamespace(
        recipe=recipe, dataset=SimpleNamespace(input_shape=(2, 2, 2), input_dtype=torch.float32)
    )
    _check_size(bench, NET)


@pytest.mark.parametrize(
    ("quantize", "least"), [({"mode": "ptq"}, 9000 / 1024), ({"weights": "int4"}, 4500 / 1024), (None, 36000 / 1024)]
)
def test_a_budget_below_the_weights_alone_is_refused(quantize: dict[str, str] | None, least: float) -> None:
    check(least * 1.001, quantize=quantize)
    with pytest.raises(ModelError, match=r"cannot be met: the 9,000 weights of resnet8 take .* KiB as"):
        check(least * 0.999, quantize=quantize)


def test_nothing_is_said_where_there_is_no_limit_or_weights_are_removed() -> None:
    check(None)
    check(1.0, prune={"ratio": 0.9})
