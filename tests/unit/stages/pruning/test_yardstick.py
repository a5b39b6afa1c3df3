"""Weights and latencies of pruned models: real flatbuffers, of the widths and types that would be shipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgecompress.recipe.schema import BenchmarkSpec, Recipe
from edgecompress.stages.pruning import yardstick
from edgecompress.stages.pruning.yardstick import Timing, Yardstick, timed
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.runtime.patience import OWN_START_S

SHAPE = (1, 8, 8)


def net(width: int) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)
    ).eval()


@pytest.fixture
def bench() -> Any:
    recipe = Recipe.model_validate(
        {"version": 1, "student": {"model": "resnet8"}, "quantize": {}, "export": {"metadata": False}}
    )
    return SimpleNamespace(recipe=recipe, dataset=SimpleNamespace(input_shape=SHAPE, input_dtype=torch.float32))


def test_a_structure_is_converted_once_and_weighed_as_int8(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[nn.Module] = []
    convert = yardstick.convert
    monkeypatch.setattr(yardstick, "convert", lambda model, *rest: (converted.append(model), convert(model, *rest)))
    base, pruned = net(16), net(8)
    with Yardstick(bench, base) as one:
        assert converted == []
        before = one.before("size")
        size = one.value("size", pruned)
        other = net(8)
        nn.init.ones_(other[0].weight)
        assert one.value("size", other) == size < before
        path = one._path(base)  # what is timed: of the same conversion, and as heavy where nothing is told in it
        assert path.stat().st_size == before
        assert converted == [base, pruned]
        folder = Path(one._folder.name)
        types = {tensor.type for tensor in read_model(path).subgraphs[0].tensors}
        assert types == {9, 2}  # INT8, and INT32 biases
    assert not folder.exists()


def test_latencies_are_ratios_to_the_unpruned_model(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], int]] = []

    def told(paths: Mapping[str, Path], _spec: BenchmarkSpec, runs: int) -> dict[str, tuple[float, float]]:
        asked.append((list(paths), runs))
        return {"base": (30.0, 1.0), "model": (29.0, 0.75)}

    monkeypatch.setattr(yardstick, "timed", told)
    with Yardstick(bench, net(16)) as one:
        assert one.before("latency") == 30.0
        assert one.time(net(8)) == Timing(30.0, 22.5, 0.75)
        assert one.value("latency", net(8)) == 22.5
        assert one.slower(net(8)) == (False, Timing(30.0, 22.5, 0.75))
    # Once alone; then beside the other, for about three seconds each.
    assert asked == [(["base"], 60)] + [(["base", "model"], 100)] * 3


def test_the_flatbuffer_of_a_finished_stage_is_used_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "float.tflite"
    yardstick.convert(net(16), SHAPE, path)
    bench.float_flatbuffer = {"distill": path}.__getitem__
    monkeypatch.setattr(yardstick, "convert", lambda *_: pytest.fail("converted again"))
    with Yardstick(bench, net(16), "distill") as one:
        assert 0 < one.before("size") < path.stat().st_size


@pytest.mark.parametrize("isolated", [False, True])
def test_the_first_runtime_of_the_recipe_is_timed(monkeypatch: pytest.MonkeyPatch, isolated: bool) -> None:
    """In this process, or in one of its own where the runtime needs that."""
    runtime = "tflite-runtime" if isolated else "litert"
    calls: list[Any] = []

    def measure(paths: Any, **options: Any) -> Any:
        calls.append(options)
        return {"base": SimpleNamespace(p50_ms=2.0, ratio_to_first=1.0)}

    def call(task: str, arguments: Any, *, start_s: float, runtime: str) -> Any:
        assert start_s == OWN_START_S
        calls.append((task, arguments, runtime))
        return {"base": {"p50_ms": 2.0, "ratio_to_first": 1.0}}

    monkeypatch.setattr(yardstick, "measure", measure)
    monkeypatch.setattr(yardstick, "call", call)
    spec = BenchmarkSpec(runtimes=(runtime, "tensorflow"), threads=2)
    assert timed({"base": Path("/x.tflite")}, spec, 50) == {"base": (2.0, 1.0)}
    options = {"runtime": runtime, "threads": 2, "runs": 50}
    assert calls == [("bench", {"paths": {"base": "/x.tflite"}, **options}, runtime) if isolated else options]
