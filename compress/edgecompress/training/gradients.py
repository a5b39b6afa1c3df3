"""Gradients of the training loss on a model that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.models.blame import blaming
from edgecompress.tasks.base import Task
from edgecompress.training.defaults import Settled, batch_at, steps_per_epoch
from edgecompress.training.fit import stage_seed
from edgecompress.training.layout import require_safe, safe_kernels
from edgecompress.training.loss import Lesson, batch_loss


def batch_gradients(
    model: nn.Module,
    spec: Settled,
    task: Task,
    ctx: Context,
    *,
    lesson: Lesson,
    device: torch.device,
    name: str,
    batches: int,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yields path of a parameter -> gradient of the mean training loss of one batch, in float32; batch after batch.

    Modes and `requires_grad` are the caller's to set, `.grad` is left alone. Parameters that the loss does not depend
    on are left out.

    Args:
        model: On `device`.
        spec: Batch size and smoothing of labels count.
        task: Data and losses; samples are of the train split, in their first augmented view.
        ctx: The run.
        lesson: Labels alone, or a teacher too.
        device: Where the model is.
        name: Seeds the choice of samples.
        batches: How many, at most an epoch's.

    Raises:
        ModelError: The loss is not finite, or the model's code raised something.
    """
    require_safe(model, device)
    samples = len(task.dataset.train)
    order = np.random.default_rng(stage_seed(ctx.seed, name)).permutation(samples)
    parameters = {path: parameter for path, parameter in model.named_parameters() if parameter.requires_grad}
    for number in range(min(batches, steps_per_epoch(samples, spec.batch_size, spec.last_batch))):
        index = batch_at(order, number, spec)
        where = f"{ctx.stage}, gradients of batch {number + 1}"
        with safe_kernels(model, device):
            loss = batch_loss(model, spec, task, lesson, device=device, index=index, epoch=0, where=where, fast=False)
            with blaming(model, where):
                found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        yield {path: one for path, one in zip(parameters, found, strict=True) if one is not None}
