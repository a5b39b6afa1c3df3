"""What a pruning stage ranks channels by: the recipe's criterion, on the gradients of the training loss."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.pipeline.run import run_pipeline
from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.structured.importance import GroupMagnitude, Taylor
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.recipe.schema import Recipe
from edgecompress.stages import prune
from edgecompress.stages.base import Workbench
from edgecompress.stages.prune import TAYLOR_BATCHES, Ranking
from edgecompress.stages.pruning.targets import find_aim, pruner_for
from edgecompress.stages.pruning.yardstick import Timing, Yardstick
from edgecompress.store.store import Store
from edgecompress.training.gradients import batch_gradients
from edgecompress.training.loss import Lesson

TRAIN = {"epochs": 1, "batch_size": 16}


def recipe(**spec: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "version": 1, "name": "ranking", "threads": 1, "data": {"train_samples": 120, "test_samples": 40},
            "teacher": {"model": "resnet8", "args": {"width": 8}, "train": TRAIN},
            "prune": {"importance": "taylor", "ratio": 0.4, "steps": 2, "round_to": 4, "train": TRAIN, **spec},
        }
    )  # fmt: skip


def bench_of(made: Recipe, tmp_path: Path) -> tuple[Workbench, nn.Module]:
    bench = Workbench(made, Context(made.seed, stage="prune"), Store(tmp_path / "store"))
    assert made.teacher is not None
    return bench, bench.build(made.teacher).to(bench.device).eval()


def ratings(importance: Any, model: nn.Module, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {root.name: importance(root) for root in ChannelGraph(model, torch.zeros(1, *shape)).roots}


def test_taylor_goes_by_the_stage_s_own_loss_on_training_batches(tmp_path: Path) -> None:
    made = recipe()
    bench, model = bench_of(made, tmp_path)
    before = copy.deepcopy(model.state_dict())
    assert made.prune is not None
    ranking = Ranking(bench, model, made.prune, Lesson())
    expected = Taylor()
    found = batch_gradients(
        model, made.prune.train, bench.task, bench.ctx, lesson=Lesson(), device=bench.device, name="importance-1",
        batches=TAYLOR_BATCHES,
    )  # fmt: skip
    for gradients in found:
        expected.observe(model, gradients)
    shape = bench.dataset.input_shape
    one, other = ratings(ranking.importance, model, shape), ratings(expected, model, shape)
    assert one
    assert all(torch.equal(one[name], other[name]) for name in one)
    # Evaluation mode: the batch norms' statistics did not move.
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_frozen_layers_are_rated_too(tmp_path: Path) -> None:
    made = recipe()
    bench, model = bench_of(made, tmp_path)
    assert made.prune is not None
    free = ratings(Ranking(bench, model, made.prune, Lesson()).importance, model, bench.dataset.input_shape)
    model.requires_grad_(False)
    frozen = ratings(Ranking(bench, model, made.prune, Lesson()).importance, model, bench.dataset.input_shape)
    assert all(torch.equal(free[name], frozen[name]) for name in free)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_gradients_are_renewed_for_the_model_as_it_is(tmp_path: Path) -> None:
    made = recipe()
    bench, model = bench_of(made, tmp_path)
    assert made.prune is not None
    ranking = Ranking(bench, model, made.prune, Lesson())
    shape = bench.dataset.input_shape
    StructuredPruner(
        model, torch.zeros(1, *shape), of="macs", ratio=0.4, steps=1, round_to=4, importance=ranking.importance
    ).prune_step(1)
    ranking.renew(2)
    for name, rated in ratings(ranking.importance, model, shape).items():
        assert len(rated) == model.get_submodule(name).weight.shape[0]


def test_criteria_without_gradients_take_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_more: Any) -> None:
        raise AssertionError("gradients were taken")

    monkeypatch.setattr(prune, "batch_gradients", fail)
    made = recipe(importance="bn")
    bench, model = bench_of(made, tmp_path)
    assert made.prune is not None
    ranking = Ranking(bench, model, made.prune, Lesson())
    ranking.renew(2)
    assert ratings(ranking.importance, model, bench.dataset.input_shape)


def test_before_any_training_magnitudes_stand_in_for_reach_and_sizes(tmp_path: Path) -> None:
    widths = []
    for importance in ("taylor", "l2"):
        made = recipe(importance=importance)
        bench, model = bench_of(made, tmp_path)
        assert made.prune is not None
        pruner = pruner_for(bench, model, made.prune, find_aim(bench, model, made.prune, search=False), 2)
        assert isinstance(pruner._importance, GroupMagnitude)
        widths.append(pruner.report().largest_share)
    assert widths[0] == widths[1]


def test_a_search_ranks_its_trials_by_the_gradients_of_the_unpruned_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(of="size")
    bench, model = bench_of(made, tmp_path)
    assert made.prune is not None
    ranking = Ranking(bench, model, made.prune, Lesson())
    asked: list[tuple[str, bool]] = []
    rate = Taylor.__call__

    def watch(self: Taylor, root: Any) -> torch.Tensor:
        asked.append((root.name, self is ranking.importance))
        return rate(self, root)

    monkeypatch.setattr(Taylor, "__call__", watch)
    aim = find_aim(bench, model, made.prune, search=False, importance=ranking.importance)
    assert aim.tries
    assert asked
    assert all(same for _, same in asked)


def metrics_and_weights(store: Path) -> tuple[dict[str, Any], str]:
    (folder,) = store.glob("prune-*")
    result = json.loads((folder / "manifest.json").read_text())
    return result["metrics"], result["files"]["weights.safetensors"]


def test_a_run_with_taylor_says_so_and_repeats_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether what is left is faster is another matter, and takes four conversions.
    monkeypatch.setattr(Yardstick, "slower", lambda _self, _model: (False, Timing(1.0, 0.9, 0.9)))
    run_pipeline(recipe(), output=tmp_path / "teacher", store=Store(tmp_path / "store-one"), until="teacher")
    shutil.copytree(tmp_path / "store-one", tmp_path / "store-two")  # both prune the same one
    found = []
    for name in ("one", "two"):
        run_pipeline(recipe(), output=tmp_path / name, store=Store(tmp_path / f"store-{name}"), until="prune")
        found.append(metrics_and_weights(tmp_path / f"store-{name}"))
    (metrics, weights), (_, again) = found
    assert metrics["importance"] == "taylor"
    assert metrics["removed_macs"] == pytest.approx(0.4, abs=0.05)
    assert weights == again
