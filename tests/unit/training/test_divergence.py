"""A training that diverges is noticed at once and tries again where it may; one that learns nothing is told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.context import Context, Event
from edgecompress.errors import DivergedError
from edgecompress.recipe.schema import Recipe
from edgecompress.training import checkpoint
from edgecompress.training.divergence import MOST_SETBACKS, guessing, no_better_than_guessing
from edgecompress.training.fit import fit
from edgecompress.training.loss import Lesson
from tests.unit.training.training_task import BlobTask, settled

#: From this learning rate on the nets here break; the peak is 0.05.
TOO_FAST = 0.03


class CutError(Exception):
    """Stands for a kill."""


class RootAtZero(nn.Module):
    """Adds nothing, with a gradient that is not finite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sqrt(x * 0)


def net(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), *more, nn.ReLU(), nn.Linear(8, 2))


class Breaks:
    """Breaks a weight after every step with too high a learning rate; may be cut off after some steps."""

    def __init__(self, model: nn.Module, limit: float = TOO_FAST, cut_after: int | None = None) -> None:
        self.model, self.limit, self.cut_after, self.steps = model, limit, cut_after, 0

    def __call__(self, optimizer: torch.optim.Optimizer) -> None:
        if self.steps == self.cut_after:
            raise CutError
        self.steps += 1
        if optimizer.param_groups[0]["lr"] > self.limit:
            with torch.no_grad():
                next(self.model.parameters()).view(-1)[0] = float("nan")


def train(
    model: nn.Module,
    folder: Path | None = None,
    events: list[Event] | None = None,
    after_step: Any = None,
    task: BlobTask | None = None,
    **spec: Any,
) -> list[dict[str, Any]]:
    recipe = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}})
    ctx = Context(recipe.seed, listeners=[] if events is None else [events.append], stage="teacher", checkpoints=folder)
    settings = settled(**({"epochs": 4, "batch_size": 32, "learning_rate": 0.05, "warmup": 0.5} | spec))
    return fit(
        model, settings, task or BlobTask(), ctx, lesson=Lesson(), device=torch.device("cpu"), name="net",
        after_step=after_step,
    )  # fmt: skip


def warnings_of(events: list[Event]) -> list[str]:
    return [event.data["message"] for event in events if event.kind == "warning"]


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_gradients_that_are_not_finite_are_noticed_at_the_step_and_named(clip_norm: float | None) -> None:
    with pytest.raises(DivergedError, match=r"gradient of 0\.weight is not finite \(teacher, epoch 1, step 1\)"):
        train(net(RootAtZero()), clip_norm=clip_norm)


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.0)
    model = net()
    with pytest.raises(DivergedError, match=r"0\.weight has values that are not finite .* step 11\b") as caught:
        train(model, tmp_path, after_step=Breaks(model))
    assert f"The last good checkpoint is {tmp_path / 'net.checkpoint'}" in str(caught.value)
    saved = checkpoint.Checkpoint(Context(checkpoints=tmp_path), "net").load()
    assert saved is not None
    assert saved["step"] == 10
    assert all(bool(torch.isfinite(value).all()) for value in saved["model"].values())


def test_averages_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    model = net(nn.BatchNorm1d(8))

    def overflow(_optimizer: torch.optim.Optimizer) -> None:
        model[1].running_var[3] = float("inf")  # type: ignore[index, union-attr]

    with pytest.raises(DivergedError, match=r"1\.running_var has values that are not finite"):
        train(model, tmp_path, after_step=overflow)
    assert not list(tmp_path.glob("*.checkpoint"))


def test_stopping_says_that_it_could_try_again() -> None:
    model = net()
    with pytest.raises(DivergedError, match=r"the loss is nan .* on_divergence: retry") as caught:
        train(model, after_step=Breaks(model))
    assert "checkpoint" not in str(caught.value)


def test_a_retry_goes_on_from_the_epoch_with_half_the_rate(tmp_path: Path) -> None:
    model, events = net(), list[Event]()
    curve = train(model, tmp_path, events, Breaks(model), on_divergence="retry")
    assert [entry["epoch"] for entry in curve] == [1, 2, 3, 4]
    assert max(entry["learning_rate"] for entry in curve) <= TOO_FAST
    assert curve[0]["learning_rate"] == pytest.approx(0.05 * 7.5 / 16)  # the first epoch stands
    (told,) = warnings_of(events)
    assert told == "net: training diverged at step 12; from epoch 2 on it has half the learning rate."
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


def test_outside_of_a_run_a_retry_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = net()
    assert len(train(model, after_step=Breaks(model), on_divergence="retry")) == 4
    assert list(tmp_path.iterdir()) == []


def test_it_is_given_up_after_some_setbacks() -> None:
    model, events = net(), list[Event]()
    with pytest.raises(DivergedError, match=f"It went back {MOST_SETBACKS} times before"):
        train(model, None, events, Breaks(model, limit=1e-9), on_divergence="retry")
    assert len(warnings_of(events)) == MOST_SETBACKS
    assert "1/8 of the learning rate" in warnings_of(events)[-1]


@pytest.mark.parametrize("cut_after", [3, 9, 10, 11, 12, 20, 33])
def test_a_retry_that_was_cut_off_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_after: int
) -> None:
    undisturbed = net()
    curve = train(undisturbed, after_step=Breaks(undisturbed), on_divergence="retry")
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.0 if cut_after % 2 else 1e-3)
    model = net()
    with pytest.raises(CutError):
        train(model, tmp_path, after_step=Breaks(model, cut_after=cut_after), on_divergence="retry")
    torch.rand(10)
    again, events = net(), list[Event]()
    assert train(again, tmp_path, events, Breaks(again), on_divergence="retry") == curve
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert len(warnings_of(events)) == 1  # also where the run before had given it


def test_what_guessing_scores() -> None:
    level = guessing(np.array([0] * 300 + [1] * 100))
    assert level is not None
    assert level[0] == 75.0
    assert level[1] == pytest.approx(2 * 100 * (0.75 * 0.25 / 400) ** 0.5)
    assert guessing(np.zeros(100, np.int64)) is None  # one class: nothing to learn
    assert guessing(np.array([0, 1] * 5)) is None  # too few to tell
    assert guessing(np.zeros(0, np.int64)) is None
    assert guessing(np.linspace(0, 1, 100)) is None  # a regression


@pytest.mark.parametrize(
    ("epoch", "accuracy", "loss", "words"),
    [
        (1, 50.0, 0.7, None),
        (2, 50.0, 0.7, "After the warm-up (epoch 2 of 10)"),
        (2, 50.0, 0.3, None),  # the loss has fallen: the averages of batch norms follow
        (2, 58.0, 0.7, None),
        (3, 50.0, 0.7, None),
        (10, 50.0, 0.1, "In the end (epoch 10 of 10)"),
        (10, 58.0, 0.7, None),
        (10, None, 0.7, None),
    ],
)
def test_guessing_is_told_when_the_warm_up_is_over_and_in_the_end(
    epoch: int, accuracy: float | None, loss: float, words: str | None
) -> None:
    labels, spec = np.array([0, 1] * 500), settled(epochs=10, warmup=0.15)
    entry = {"epoch": epoch, "validation_accuracy": accuracy, "loss": loss}
    found = no_better_than_guessing(entry, labels, spec, first_loss=0.71)
    assert (found is None) == (words is None)
    if words is not None and found is not None:
        assert found.startswith(f"{words} the validation accuracy is 50.0 %: no better than")
        assert "(50.0 %)" in found


def test_a_model_that_learns_nothing_is_a_warning_of_the_stage() -> None:
    task, events = BlobTask(), list[Event]()
    rng = np.random.default_rng(3)
    task.dataset.train.labels[:] = rng.permutation(task.dataset.train.labels)  # labels that say nothing
    task.dataset.validation.labels[:] = np.arange(len(task.dataset.validation)) % 2
    object.__setattr__(task.dataset, "validation", type(task.dataset.validation)(
        np.concatenate([task.dataset.validation.inputs] * 10), np.concatenate([task.dataset.validation.labels] * 10)
    ))  # fmt: skip
    train(net(), None, events, task=task, learning_rate=1e-6, warmup=0.1)
    assert any("no better than always answering" in message for message in warnings_of(events))
    events.clear()
    train(net(), None, events)
    assert warnings_of(events) == []
