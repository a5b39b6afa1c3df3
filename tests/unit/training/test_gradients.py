"""Gradients of the training loss: the right ones, the same ones each time, and nothing is changed by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.context import Context
from edgecompress.errors import ModelError
from edgecompress.recipe.schema import Recipe
from edgecompress.training.gradients import batch_gradients
from edgecompress.training.loss import Lesson
from tests.unit.training.training_task import BlobTask, settled

CPU = torch.device("cpu")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).eval()


def gradients(
    model: nn.Module, task: BlobTask, *, name: str = "a", batches: int = 3, lesson: Lesson | None = None, **spec: float
) -> list[dict[str, torch.Tensor]]:
    recipe = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}})
    ctx = Context(recipe.seed, stage="prune")
    found = batch_gradients(
        model, settled(batch_size=32, **spec), task, ctx, lesson=lesson or Lesson(), device=CPU, name=name,
        batches=batches,
    )  # fmt: skip
    return list(found)


class Constant:
    """A teacher that always answers the same, and remembers what it was asked."""

    views = 3

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int]] = []

    def targets(self, index: NDArray[np.int64], view: int, inputs: torch.Tensor) -> torch.Tensor:
        self.asked.append((index.tolist(), view))
        return torch.tensor([[3.0, -1.0]]).expand(len(inputs), 2)


def test_they_are_those_of_the_loss_on_the_batch_with_the_teacher() -> None:
    task, model, teacher = BlobTask(), net(), Constant()
    (found,) = gradients(model, task, batches=1, lesson=Lesson(teacher, 2.0, 0.6))
    ((index, view),) = teacher.asked
    assert view == 0
    assert len(set(index)) == 32
    x = task.inputs(task.dataset.train.inputs[index])
    labels = torch.from_numpy(task.dataset.train.labels[index])
    targets = torch.tensor([[3.0, -1.0]]).expand(32, 2)
    task.distillation_loss(model(x), targets, labels, 2.0, 0.6).backward()
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_labels_alone_with_smoothing() -> None:
    task, model = BlobTask(), net()
    plain, smooth = (gradients(model, task, label_smoothing=share)[0] for share in (0.0, 0.3))
    assert not torch.allclose(plain["3.weight"], smooth["3.weight"])


def test_the_model_stays_as_it_is() -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients(model, BlobTask())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_name_names_the_samples() -> None:
    model = net()
    first, again, other = (gradients(model, BlobTask(), name=name) for name in ("a", "a", "b"))
    assert all(torch.equal(one[name], two[name]) for one, two in zip(first, again, strict=True) for name in one)
    assert not torch.equal(first[0]["0.weight"], other[0]["0.weight"])


def test_there_are_no_more_batches_than_in_an_epoch() -> None:
    assert len(gradients(net(), BlobTask(train=100), batches=20)) == 3
    assert len(gradients(net(), BlobTask(train=20), batches=20)) == 1


def test_frozen_and_unused_parameters_are_left_out() -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    model.unused = nn.Linear(2, 2)
    model.forward = lambda x: model[3](model[2](model[1](model[0](x))))
    (found,) = gradients(model, BlobTask(), batches=1)
    assert set(found) == {"0.bias", "1.weight", "1.bias", "3.weight", "3.bias"}


def test_a_loss_that_is_not_finite_is_told() -> None:
    model = net()
    with torch.no_grad():
        model[3].weight.fill_(float("inf"))
    with pytest.raises(ModelError, match=r"the loss is nan \(prune, gradients of batch 1\)"):
        gradients(model, BlobTask())
