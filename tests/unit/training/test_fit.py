"""The training loop: it learns, repeats itself, alternates with other work and notices when it cannot learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.context import Context, Event
from edgecompress.errors import ModelError, ResourceError
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store
from edgecompress.training.defaults import steps_per_epoch
from edgecompress.training.evaluate import outputs_of
from edgecompress.training.fit import fit
from edgecompress.training.loss import Lesson
from edgecompress.training.precision import autocast, pick_device, pick_threads
from edgecompress.training.schedules import hasten_averages, make_optimizer, rate_at
from edgecompress.training.soft_targets import OnlineTeacher, StoredTargets
from tests.unit.training.training_task import BlobTask, settled

CPU = torch.device("cpu")


def context(events: list[Event] | None = None, seed: int = 0) -> Context:
    recipe = Recipe.model_validate({"version": 1, "seed": seed, "teacher": {"model": "resnet8"}})
    return Context(recipe.seed, listeners=[events.append] if events is not None else [], stage="teacher")


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def train(
    model: nn.Module, task: BlobTask, ctx: Context | None = None, lesson: Lesson | None = None, **spec: object
) -> list[dict]:
    defaults = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05} | spec
    return fit(model, settled(**defaults), task, ctx or context(), lesson=lesson or Lesson(), device=CPU, name="test")


def accuracy(model: nn.Module, task: BlobTask) -> float:
    split = task.dataset.test
    return task.metrics(outputs_of(model, task, split.inputs, CPU), split)["accuracy"]


def test_it_learns_and_tells_each_epoch() -> None:
    task, events = BlobTask(), []
    model = net()
    before = accuracy(model, task)
    curve = train(model, task, context(events))
    assert accuracy(model, task) > max(before, 85.0)
    assert [entry["epoch"] for entry in curve] == [1, 2, 3, 4]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert [entry["steps"] for entry in curve] == [8, 16, 24, 32]
    assert [event.data["epoch"] for event in events if event.kind == "epoch"] == [1, 2, 3, 4]
    assert not model.training


def test_batch_norms_made_for_long_trainings_follow_short_ones() -> None:
    """As MobileNetV3's: left alone, they hold next to nothing of the data by the end."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm1d(8, momentum=momentum) for momentum in (0.001, 0.3, None)]
    layers = [one for norm in norms for one in (nn.Linear(8, 8, bias=False), norm, nn.ReLU())]
    model, task, events = nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, 2)), BlobTask(), list[Event]()
    norms[0].running_mean.fill_(50.0)  # what it began with
    train(model, task, context(events), epochs=40)
    assert accuracy(model, task) > 85.0
    assert [norm.momentum for norm in norms] == [20 / 320, 0.3, None]
    (note,) = [event.data["message"] for event in events if event.kind == "note"]
    assert note == "batch norms average with a momentum of 0.0625: theirs is made for more than 320 steps"


@pytest.mark.parametrize(("momentum", "steps", "given"), [(0.01, 5000, None), (0.01, 50, 0.1), (0.1, 10, None)])
def test_averages_that_follow_fast_enough_stay(momentum: float, steps: int, given: float | None) -> None:
    norm = nn.BatchNorm2d(3, momentum=momentum)
    assert hasten_averages(nn.Sequential(norm), steps) == given
    assert norm.momentum == (given or momentum)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_same_seed_gives_the_same_weights(optimizer: str) -> None:
    results = []
    for seed in (0, 0, 1):
        model = net()
        train(model, BlobTask(), context(seed=seed), optimizer=optimizer, learning_rate=0.01)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_spans_cover_all_steps_once() -> None:
    task, model = BlobTask(), net()
    steps: list[float] = []
    spec = settled(epochs=3, batch_size=32, learning_rate=0.01)
    for span in [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]:
        fit(model, spec, task, context(), lesson=Lesson(), device=CPU, name="s", span=span, at_progress=steps.append)
    total = 3 * steps_per_epoch(256, 32)
    assert steps == pytest.approx([step / total for step in range(total)])


def test_after_step_sees_the_optimizer_and_can_hold_weights() -> None:
    model = net()

    def zero(optimizer: torch.optim.Optimizer) -> None:
        assert optimizer.param_groups
        with torch.no_grad():
            model[0].weight[0].zero_()

    fit(
        model,
        settled(epochs=1, batch_size=32),
        BlobTask(),
        context(),
        lesson=Lesson(),
        device=CPU,
        name="z",
        after_step=zero,
    )
    assert bool((model[0].weight[0] == 0).all())
    assert bool((model[0].weight[1] != 0).any())


def test_no_training_samples_is_an_error() -> None:
    with pytest.raises(ModelError, match="no training samples"):
        train(net(), BlobTask(train=0))


def test_divergence_stops_at_once_and_says_where() -> None:
    with pytest.raises(ModelError, match=r"diverged.*learning_rate|epoch"):
        train(net(), BlobTask(), learning_rate=100, optimizer="sgd", epochs=40, momentum=0.99)


def test_a_batch_larger_than_the_data_still_trains() -> None:
    curve = train(net(), BlobTask(train=10), batch_size=64)
    assert len(curve) == 4


def test_clipping_limits_the_step() -> None:
    free, clipped = net(), net()
    train(free, BlobTask(), epochs=1, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    train(clipped, BlobTask(), epochs=1, learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=1e-4)
    start = net()

    def moved(model: nn.Module) -> float:
        return sum(float((a - b).detach().norm()) for a, b in zip(model.parameters(), start.parameters(), strict=True))

    assert moved(clipped) < 0.01 * moved(free)


@pytest.mark.parametrize(("schedule", "middle"), [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_schedules_warm_up_and_fall(schedule: str, middle: float) -> None:
    spec = settled(learning_rate=2.0, warmup=0.2, schedule=schedule)
    assert rate_at(spec, 0.1) == pytest.approx(1.0)
    assert rate_at(spec, 0.2) == pytest.approx(2.0)
    assert rate_at(spec, 0.6) == pytest.approx(2.0 * middle)
    assert rate_at(spec, 1.0) == pytest.approx(0.0 if schedule != "constant" else 2.0)


def test_only_matrices_decay() -> None:
    optimizer = make_optimizer(net(), settled(weight_decay=0.1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
    assert all(p.ndim == 1 for p in optimizer.param_groups[1]["params"])


def test_distillation_follows_the_teacher_and_not_the_labels() -> None:
    task = BlobTask()
    teacher = nn.Linear(4, 2)
    with torch.no_grad():  # a teacher that is always wrong
        teacher.weight.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4]))
        teacher.bias.copy_(torch.tensor([-3.0, 3.0]))
    student = net()
    lesson = Lesson(OnlineTeacher(teacher, CPU, (4,)), temperature=2.0, alpha=1.0)
    train(student, task, lesson=lesson, epochs=6)
    assert accuracy(student, task) < 20.0


def test_stored_targets_equal_the_teacher_on_the_same_view_and_are_stored_once(tmp_path: Path) -> None:
    task, made = BlobTask(), []

    def make() -> nn.Module:
        made.append(1)
        return net(seed=5)

    def stored() -> StoredTargets:
        return StoredTargets(
            Store(tmp_path), context(), task, views=2, teacher_fingerprint="t", teacher=make, device=CPU
        )

    index = np.array([7, 200, 3])
    x = task.augmented(task.dataset.train.inputs[index], index, 1)
    targets = stored().targets(index, 1, x)
    expected = OnlineTeacher(net(seed=5), CPU, (4,)).targets(index, 1, x)
    torch.testing.assert_close(targets, expected, atol=2e-3, rtol=2e-3)
    again = stored()
    assert torch.equal(again.targets(index, 1, x), targets)
    assert len(made) == 1
    again.targets(index, 0, x)
    assert len(made) == 2


def test_training_cycles_through_the_stored_views(tmp_path: Path) -> None:
    task = BlobTask()
    teacher = StoredTargets(Store(tmp_path), context(), task, views=2, teacher_fingerprint="t", teacher=net, device=CPU)
    train(net(), task, lesson=Lesson(teacher, 2.0, 0.5), epochs=5, batch_size=256)
    assert set(task.views_asked) == {0, 1}
    without = BlobTask()
    train(net(), without, epochs=5, batch_size=256)
    assert set(without.views_asked) == {0, 1, 2, 3, 4}


def test_devices_threads_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_threads(3) == 3
    assert pick_threads(None) >= 1
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="no CUDA device"):
            pick_device("cuda")
        assert pick_device("auto").type == "cpu"
    monkeypatch.setattr("edgecompress.training.precision.has_bfloat16", lambda _device: True)
    x = torch.ones(2, 2)
    with autocast(CPU, (1, 28, 28)):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, (1, 8, 8)):
        assert (x @ x).dtype == torch.float32


def test_outputs_keep_the_mode_and_handle_an_empty_split() -> None:
    task, model = BlobTask(), net()
    model.train()
    assert outputs_of(model, task, task.dataset.test.inputs[:0], CPU).shape == (0, 2)
    assert outputs_of(model, task, task.dataset.test.inputs, CPU, batch_size=7).shape == (64, 2)
    assert model.training
    assert math.isfinite(float(outputs_of(model, task, task.dataset.test.inputs, CPU).sum()))
