"""Users' modules in training: what they raise is told with its line, what they write to their input is theirs alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.errors import DivergedError, ModelError
from edgecompress.store.store import Store
from edgecompress.tasks.inputs import Tokens
from edgecompress.training.evaluate import outputs_of
from edgecompress.training.fit import fit
from edgecompress.training.loss import Lesson
from edgecompress.training.soft_targets import OnlineTeacher, StoredTargets
from tests.unit.training.training_task import BlobTask, settled

CPU = torch.device("cpu")


class Plain(nn.Module):
    """Two linear layers; what is done before them is each module's own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 2)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        return self.two(torch.relu(self.one(self.before(x))))

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x


class FailsLater(Plain):
    """Fails in its second epoch."""

    error: Exception = KeyError("mask")

    def before(self, x: torch.Tensor) -> torch.Tensor:
        if self.calls > 9:
            raise self.error
        return x


class FailsWhenScored(Plain):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        assert self.training, "only for training"
        return x


class FailsBackwards(Plain):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.exp(self.one.weight[0, 0]) * x
        return Refuses.apply(x)


class Refuses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise IndexError("no such place")


class Spoils(Plain):
    """Leaves zeros in its input."""

    def before(self, x: torch.Tensor) -> torch.Tensor:
        kept = x.clone()
        x.zero_()
        return kept


class NotANumber(Plain):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x * float("nan")


def train(model: nn.Module, lesson: Lesson | None = None, task: BlobTask | None = None, **spec: object) -> list[dict]:
    settings = settled(**{"epochs": 2, "batch_size": 32, "learning_rate": 0.05, **spec})
    ctx = Context(stage="teacher")
    return fit(model, settings, task or BlobTask(), ctx, lesson=lesson or Lesson(), device=CPU, name="test")


@pytest.mark.parametrize("error", [ValueError("v"), KeyError("k"), IndexError("i"), AssertionError("a"), SystemExit(3)])
def test_what_it_raises_in_the_second_epoch_names_epoch_and_line(error: Exception) -> None:
    model = FailsLater()
    model.error = error
    said = rf"^the model failed \(teacher, epoch 2, step 10\): {type(error).__name__}: .*test_users_code.py:\d+\)$"
    with pytest.raises(ModelError, match=said):
        train(model)


def test_what_it_raises_while_it_is_scored_too() -> None:
    with pytest.raises(ModelError, match=r"while it was scored\): AssertionError: only for training .*users_code.py"):
        train(FailsWhenScored())


def test_what_it_raises_backwards_too() -> None:
    with pytest.raises(ModelError, match=r"epoch 1, step 1\): IndexError: no such place .*users_code.py"):
        train(FailsBackwards())


def test_a_loss_that_is_no_number_from_the_first_step_on_is_given_up() -> None:
    with pytest.raises(DivergedError, match=re.escape("the loss is nan (teacher, epoch 1, step 1)")):
        train(NotANumber(), on_divergence="retry")


def test_a_teacher_that_writes_into_its_input_teaches_as_one_that_does_not(tmp_path: Path) -> None:
    weights = []
    for kind in (Plain, Spoils):
        student = Plain()
        train(student, Lesson(OnlineTeacher(kind(), CPU, (4,)), 2.0, 0.5))
        weights.append(student.one.weight.detach().clone())
    task = BlobTask()
    stored = StoredTargets(
        Store(tmp_path), Context(), task, views=1, teacher_fingerprint="spoils", teacher=Spoils, device=CPU
    )
    student = Plain()
    before = task.dataset.train.inputs.copy()
    train(student, Lesson(stored, 2.0, 0.5), task)
    weights.append(student.one.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert np.array_equal(task.dataset.train.inputs, before)
    assert not torch.equal(weights[0], Plain().one.weight)


class Restores(BlobTask):
    """What is learnt is the input itself."""

    def targets(self, inputs: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
        return inputs[:, :2]

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        return (outputs - labels).square().mean()


def test_a_model_that_writes_into_its_input_learns_what_was_in_it() -> None:
    losses = [train(kind(), task=Restores())[-1]["loss"] for kind in (Plain, Spoils)]
    assert losses[0] == losses[1] > 0


def test_tokens_that_a_model_writes_over_stay_as_they_are_in_the_data() -> None:
    data = np.arange(8, dtype=np.int32).reshape(2, 4)
    Tokens(None, None).inputs(data[:1]).fill_(0)  # type: ignore[arg-type]
    assert data.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_one_sample_left_over_trains_with_a_batch_norm() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    curve = train(model, task=BlobTask(train=97), last_batch="use")
    assert len(curve) == 2
    assert (curve[0]["batch_size"], curve[0]["optimizer"]) == (32, "sgd")
    with pytest.raises(ModelError, match="batches of one sample and batch norms do not go together"):
        train(model, task=BlobTask(train=97), batch_size=1)


def test_all_samples_of_an_epoch_are_seen() -> None:
    model, task = Plain(), BlobTask(train=100)
    train(model, task=task, epochs=1, last_batch="use")
    assert model.calls == 4
    assert outputs_of(model, task, task.dataset.train.inputs, CPU).shape == (100, 2)
