"""The training loop: one function that every stage uses."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.context import Context
from compress.errors import ModelError
from compress.recipe import TrainSpec
from compress.tasks.base import Task
from compress.training.checkpoint import Checkpoint, Keeper, Progress, restore
from compress.training.evaluate import outputs_of
from compress.training.loss import Lesson, batch_loss
from compress.training.precision import safe_kernels
from compress.training.schedules import make_optimizer, rate_at

PROGRESS_INTERVAL_S = 0.25


def stage_seed(seed: int, name: str, part: int = 0) -> int:
    """Returns a seed of its own for a part of a run, the same in every process."""
    return zlib.crc32(f"{seed}/{name}/{part}".encode())


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Returns how many full batches an epoch has; at least one."""
    return max(samples // batch_size, 1)


def fit(
    model: nn.Module,
    spec: TrainSpec,
    task: Task,
    ctx: Context,
    *,
    lesson: Lesson,
    device: torch.device,
    name: str,
    span: tuple[float, float] = (0.0, 1.0),
    after_step: Callable[[torch.optim.Optimizer], None] | None = None,
    at_progress: Callable[[float], None] | None = None,
    keeper: Keeper | None = None,
) -> list[dict[str, Any]]:
    """Trains a model in place and returns its curve, one entry per epoch finished.

    Within a run, checkpoints are written as it goes. The same call in a later run, on a model in the same state as at
    the first call, goes on from the last one and ends with the same weights.

    Args:
        model: What learns; on `device`, left in evaluation mode.
        spec: Epochs, optimizer, schedule.
        task: Data and losses.
        ctx: Told of progress.
        lesson: Labels alone, or a teacher too.
        device: Where the model is.
        name: Seeds the order of samples, apart from other trainings of the run; no two of a stage share one.
        span: Which part of the whole training to do, as shares of its steps: pruning alternates with training.
        after_step: Called after every optimizer step (masks are applied here).
        at_progress: Called before every step with the share of the whole training done (ranges freeze here).
        keeper: What training changes beside the model's weights and buffers.

    Raises:
        ModelError: There is nothing to train on, or the loss is not finite.
        ResourceError: A checkpoint cannot be written.
    """
    train = task.dataset.train
    if len(train) == 0:
        raise ModelError(
            f"stage {ctx.stage} has to train, but the data has no training samples. "
            "Give weights, or data with a train split."
        )
    per_epoch = steps_per_epoch(len(train), spec.batch_size)
    total = per_epoch * spec.epochs
    first, last = round(span[0] * total), round(span[1] * total)
    torch.manual_seed(stage_seed(ctx.recipe.seed, name))
    optimizer = make_optimizer(model, spec)
    announce = at_progress or (lambda _share: None)
    checkpoint = Checkpoint(ctx, name)
    saved = checkpoint.load()
    if saved is None:
        done = Progress(first)
    else:
        announce((saved["step"] - 1) / total)  # ranges that had been frozen are frozen again
        done = restore(saved, model, optimizer, keeper)
        ctx.note(f"{name}: {done.step - first} of {last - first} steps were done before")
    curve, losses = done.curve, done.losses
    order = np.zeros(0, np.int64)
    told = 0.0
    model.train()
    for step in range(done.step, last):
        epoch, position = divmod(step, per_epoch)
        if position == 0 or step == done.step:
            order = np.random.default_rng(stage_seed(ctx.recipe.seed, name, epoch + 1)).permutation(len(train))
        announce(step / total)
        rate = rate_at(spec, (step + 0.5) / total)
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = order[position * spec.batch_size : (position + 1) * spec.batch_size]
        where = f"{ctx.stage}, epoch {epoch + 1}, step {step + 1}"
        loss = _step(
            model, spec, task, lesson, device=device, index=index, epoch=epoch, optimizer=optimizer, where=where
        )
        losses.append(loss)
        if after_step is not None:
            after_step(optimizer)
        now = time.monotonic()
        if now - told > PROGRESS_INTERVAL_S or step + 1 == last:
            ctx.progress(step + 1, total, "step")
            told = now
        if position + 1 == per_epoch or step + 1 == last:
            curve.append(_close_epoch(model, task, ctx, spec, device=device, epoch=epoch, losses=losses, rate=rate))
            losses = []
        if checkpoint.due() or (step + 1 == last and done.step < last):
            checkpoint.save(Progress(step + 1, curve, losses), model, optimizer, keeper)
    model.eval()
    return curve


def _step(
    model: nn.Module,
    spec: TrainSpec,
    task: Task,
    lesson: Lesson,
    *,
    device: torch.device,
    index: NDArray[np.int64],
    epoch: int,
    optimizer: torch.optim.Optimizer,
    where: str,
) -> float:
    with safe_kernels(model, device):
        loss = batch_loss(model, spec, task, lesson, device=device, index=index, epoch=epoch, where=where)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if spec.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), spec.clip_norm)
        optimizer.step()
    return float(loss.detach())


def _close_epoch(
    model: nn.Module,
    task: Task,
    ctx: Context,
    spec: TrainSpec,
    *,
    device: torch.device,
    epoch: int,
    losses: list[float],
    rate: float,
) -> dict[str, Any]:
    validation = task.dataset.validation
    entry: dict[str, Any] = {"epoch": epoch + 1, "loss": round(float(np.mean(losses)), 6), "learning_rate": rate}
    if len(validation):
        figures = task.metrics(outputs_of(model, task, validation.inputs, device, fast=True), validation.labels)
        entry["validation_accuracy"] = round(figures["accuracy"], 4)
    ctx.emit("epoch", epochs=spec.epochs, **entry)
    return entry
