"""What a model may take of the memory is told before torch takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError
from edgecompress.models.building import build_model
from edgecompress.recipe.schema import ModelSpec
from edgecompress.sources import allowance
from edgecompress.sources.allowance import MIB, Building, Running

PICTURES, STEPS = Ends((3, 32, 32), (10,)), Ends((2000, 1), (3,), "series")


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "memory_bytes", lambda: 48 * MIB)


def build(model: str, ends: Ends = PICTURES, **args: Any) -> nn.Module:
    return build_model(
        ModelSpec(model=model, args=args), ends.input_shape, ends.outputs[-1], trust=True, base_dir=Path(), seed=0,
        ends=ends,
    )  # fmt: skip


def test_models_that_fit_are_built_as_ever() -> None:
    first, again = build("resnet8"), build("resnet8")
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
    assert next(first.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("model", "ends", "args"),
    [("resnet9", PICTURES, {"width": 1024}), ("mlp", STEPS, {"width": 1024, "layers": 1024}),
     ("resnet8", Ends((3, 32, 32), (10**9,)), {}), ("transformer", STEPS, {"width": 1024, "layers": 1024}),
     ("torchvision/mobilenet_v2", PICTURES, {"width_mult": 1e5})],
)  # fmt: skip
def test_sizes_from_a_recipe_are_weighed(model: str, ends: Ends, args: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"too large: its layers come to more than 8 MiB \(a sixth of the 48 MiB"):
        build(model, ends, **args)


def test_users_models_are_weighed_as_they_are_built() -> None:
    def made() -> nn.Module:
        return nn.Linear(10**9, 10**9)

    with pytest.raises(ModelError, match="model python:x:y is too large"), Building("python:x:y"):
        made()


@pytest.mark.parametrize("make", [lambda: torch.linspace(0, 1, 10**9), lambda: torch.arange(0, 10**9, 1)])
def test_models_do_not_count_without_end(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "memory_bytes", lambda: 10**12)
    with pytest.raises(ModelError, match="its layers count to 1,000,000,000"), Building("x"):
        make()


def test_models_are_of_so_many_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "MOST_TENSORS", 10)
    with pytest.raises(ModelError, match="come to more than 10 tensors"), torch.device("meta"), Building("x"):
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))


@pytest.mark.parametrize(
    "work",
    [lambda x: x @ x.T, lambda x: x + x.T, lambda x: torch.ones(10**9) * x[:1, :1], lambda x: torch.cdist(x, x),
     lambda x: nn.functional.scaled_dot_product_attention(x[None], x[None], x[None])],
)  # fmt: skip
def test_answers_are_weighed_before_they_are_computed(work: Any) -> None:
    told = pytest.raises(ModelError, match=r"one sample of 9 comes to more than 12 MiB .* Change it, or choose another")
    with told, torch.no_grad(), Running("x", "9", "Change it"):
        work(torch.zeros(5000, 1))


def test_what_is_told_at_once_is_what_comes_out() -> None:
    x, y = torch.zeros(3, 1, 4), torch.zeros(2, 1)
    aten = torch.ops.aten
    statistics = (x[0, 0], x[0, 0], x[0, 0], x[0, 0].add(1), False, 0.1, 1e-5)
    for operator, *args in (
        (aten.add.Tensor, x, y), (aten.relu.default, x), (aten.hardtanh.default, x), (aten.mul.Tensor, x, 2.0),
        (aten.where.self, x > 0, x, y), (aten.native_batch_norm.default, x.permute(0, 2, 1), *statistics),
    ):  # fmt: skip
        answer = operator(*args)
        first = answer[0] if isinstance(answer, tuple) else answer
        assert allowance._answer_bytes(operator, tuple(args), {}) == first.numel() * first.itemsize, operator


def test_attention_is_looked_into_and_left_as_it_was() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.zeros(1, 3000, 8)
    before = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ModelError, match="comes to more than"), torch.no_grad(), Running("x", "9", "Change it"):
        layer(x, x, x, need_weights=False)
    assert torch.backends.mha.get_fastpath_enabled() == before
    with torch.no_grad(), Running("x", "9", "Change it"):
        layer(x[:, :10], x[:, :10], x[:, :10])
