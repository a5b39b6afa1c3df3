"""The loss of one training batch: from the labels, and from a teacher where there is one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.blame import blaming
from edgecompress.tasks.base import Task
from edgecompress.training.defaults import Settled
from edgecompress.training.divergence import diverged
from edgecompress.training.layout import arranged
from edgecompress.training.precision import autocast


class Teacher(Protocol):
    """Where soft targets come from."""

    #: How many augmented views there are; None for any number.
    views: int | None

    def targets(self, index: NDArray[np.int64], view: int, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the teacher's raw outputs for a batch: (N, classes) on the inputs' device."""


@dataclass(frozen=True)
class Lesson:
    """What a model learns from beside the labels.

    Attributes:
        teacher: Gives the soft targets; None for labels alone.
        temperature: Softens both sides (Hinton, Vinyals, Dean 2015).
        alpha: Weight of the soft targets.
    """

    teacher: Teacher | None = None
    temperature: float = 4.0
    alpha: float = 0.0


def batch_loss(
    model: nn.Module,
    spec: Settled,
    task: Task,
    lesson: Lesson,
    *,
    device: torch.device,
    index: NDArray[np.int64],
    epoch: int,
    where: str,
    fast: bool = True,
) -> torch.Tensor:
    """Returns the loss on some training samples, as the model's mode has it.

    Args:
        model: On `device`.
        spec: Its smoothing of labels counts.
        task: Data and losses.
        lesson: Labels alone, or a teacher too.
        device: Where the model is.
        index: The samples' positions in the train split.
        epoch: Says which augmented view of them.
        where: Said in errors.
        fast: Use bfloat16 where it pays.

    Raises:
        ModelError: The model's output is no tensor, or its code raised something.
        DivergedError: The loss is not finite.
    """
    train = task.dataset.train
    views = lesson.teacher.views if lesson.teacher is not None else None
    view = epoch if views is None else epoch % views
    x = task.augmented(train.inputs[index], index, view).to(device)
    labels = task.targets(x, train.labels[index])
    targets = lesson.teacher.targets(index, view, x) if lesson.teacher is not None else None
    batch = arranged(model, x)
    if labels.untyped_storage().data_ptr() == batch.untyped_storage().data_ptr():
        batch = batch.clone()  # the model may write into its input, which is what it has to give back
    with blaming(model, where), autocast(device, task.dataset.value_shape) if fast else contextlib.nullcontext():
        outputs = model(batch)
    if not isinstance(outputs, torch.Tensor):
        raise ModelError(
            f"in training the model returns a {type(outputs).__name__} ({where}); one tensor of scores was expected. "
            "Auxiliary outputs have to be switched off, often by an argument such as aux_logits: false."
        )
    outputs = outputs.float()
    if targets is None:
        loss = task.loss(outputs, labels, spec.label_smoothing)
    else:
        loss = task.distillation_loss(outputs, targets, labels, lesson.temperature, lesson.alpha)
    value = float(loss.detach())
    if not np.isfinite(value):
        raise diverged(f"the loss is {value}", where, spec)
    return loss
