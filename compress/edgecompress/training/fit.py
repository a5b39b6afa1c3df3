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

from edgecompress.context import Context
from edgecompress.errors import DivergedError, ModelError
from edgecompress.figures import judged
from edgecompress.models.blame import blaming
from edgecompress.tasks.base import Task
from edgecompress.training.checkpoint import Checkpoint, Keeper, Progress, restore
from edgecompress.training.defaults import Settled, batch_at, require_batches, steps_per_epoch
from edgecompress.training.divergence import MOST_SETBACKS, check_weights, clip_gradients, no_better_than_guessing
from edgecompress.training.evaluate import outputs_of
from edgecompress.training.layout import require_safe, safe_kernels
from edgecompress.training.loss import Lesson, batch_loss
from edgecompress.training.random_state import seed_all
from edgecompress.training.restoring import Course
from edgecompress.training.schedules import hasten_averages, make_optimizer, rate_at, set_rate
from edgecompress.wording import counted

PROGRESS_INTERVAL_S = 0.25
GO_BACK = "should the training diverge, it goes back to where it goes on now"


def stage_seed(seed: int, name: str, part: int = 0) -> int:
    """Returns a seed of its own for a part of a run, the same in every process."""
    return zlib.crc32(f"{seed}/{name}/{part}".encode())


def fit(
    model: nn.Module,
    spec: Settled,
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
    setbacks: int = 0,
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
        setbacks: How often earlier parts of the whole training had to go back: the learning rate stays as low.

    Raises:
        ModelError: There is nothing to train on, or the model's code raised something.
        DivergedError: Loss, gradients or weights are not finite, and the recipe does not say to try again, or it did.
        ResourceError: A checkpoint cannot be written.
    """
    train = task.dataset.train
    if len(train) == 0:
        raise ModelError(
            f"stage {ctx.stage} has to train, but the data has no training samples. "
            "Give weights, or data with a train split."
        )
    require_batches(model, spec, len(train))
    require_safe(model, device)
    per_epoch = steps_per_epoch(len(train), spec.batch_size, spec.last_batch)
    total = per_epoch * spec.epochs
    first, last = round(span[0] * total), round(span[1] * total)
    _let_averages_follow(model, total, ctx, tell=first == 0)
    seed_all(stage_seed(ctx.seed, name))
    optimizer = make_optimizer(model, spec)
    announce, finish_step = at_progress or (lambda _share: None), after_step or (lambda _optimizer: None)
    checkpoint, anchor = Checkpoint(ctx, name), Checkpoint(ctx, f"{name}.epoch", instead=GO_BACK)
    course = Course(model, optimizer, keeper, first, last, per_epoch, total)
    done = _resumed(checkpoint, course, announce, ctx, name)
    _tell_again(ctx, done, task, spec)
    if spec.on_divergence == "retry":
        _require_anchor(anchor, course, done)
    order: NDArray[np.int64] | None = None
    told = 0.0
    model.train()
    while done.step < last:
        step = done.step
        epoch, position = divmod(step, per_epoch)
        if position == 0 or order is None:
            order = np.random.default_rng(stage_seed(ctx.seed, name, epoch + 1)).permutation(len(train))
        announce(step / total)
        if spec.on_divergence == "retry" and (position == 0 or step == first):
            anchor.hold(done, model, optimizer, keeper)
        halved = setbacks + len(done.setbacks)
        rate = rate_at(spec, (step + 0.5) / total) * 0.5**halved
        set_rate(optimizer, rate)
        index = batch_at(order, position, spec)
        where = f"{ctx.stage}, epoch {epoch + 1}, step {step + 1}"
        try:
            loss = _step(
                model, spec, task, lesson, device=device, index=index, epoch=epoch, optimizer=optimizer, where=where
            )
            finish_step(optimizer)
            save = checkpoint.due() or step + 1 == last
            if save or position + 1 == per_epoch:  # nothing is kept, here or as the next epoch's start, that is broken
                check_weights(model, spec, where)
        except DivergedError as error:
            kept = _last_good(error, spec, done, checkpoint, anchor)
            announce(kept["step"] / total)
            done, order = restore(kept, model, optimizer, keeper), None
            _note_setback(ctx, name, done, step, per_epoch)
            checkpoint.save(done, model, optimizer, keeper)
            continue
        done.step += 1
        done.losses.append(loss)
        told = _tell(ctx, told, done.step, total, now=done.step == last)
        if position + 1 == per_epoch or done.step == last:
            how = {"learning_rate": rate, **spec.model_dump(include={"batch_size", "optimizer"}), "setbacks": halved}
            entry = _close_epoch(model, task, ctx, spec, device=device, epoch=epoch, done=done, how=how)
            done.curve.append({**entry, "steps": done.step})
            _judge(ctx, done.curve, task, spec)
            done.losses = []
        if save:
            checkpoint.save(done, model, optimizer, keeper)
    model.eval()
    return done.curve


def _resumed(
    checkpoint: Checkpoint, course: Course, announce: Callable[[float], None], ctx: Context, name: str
) -> Progress:
    """Puts a training to where its checkpoint is, and returns how far that is; its first step, where there is none."""
    saved = checkpoint.load(course.why_unfit)
    if saved is None:
        return Progress(course.first)
    announce((saved["step"] - 1) / course.total)  # ranges that had been frozen are frozen again
    done = restore(saved, course.model, course.optimizer, course.keeper)
    ctx.note(f"{name}: {done.step - course.first} of {course.last - course.first} steps were done before")
    return done


def _require_anchor(anchor: Checkpoint, course: Course, done: Progress) -> None:
    """Makes sure that a training that goes on within an epoch has something to go back to, should it diverge."""
    if course.first < done.step < course.last and anchor.load(course.why_unfit) is None:
        anchor.hold(done, course.model, course.optimizer, course.keeper)


def _tell(ctx: Context, told: float, step: int, total: int, *, now: bool) -> float:
    """Tells how far the training is, from time to time, and returns when that was last done."""
    moment = time.monotonic()
    if moment - told <= PROGRESS_INTERVAL_S and not now:
        return told
    ctx.progress(step, total, "step")
    return moment


def _last_good(error: DivergedError, spec: Settled, done: Progress, checkpoint: Checkpoint, anchor: Checkpoint) -> Any:
    """Returns what a training that has diverged goes back to.

    Raises:
        DivergedError: It must not, or has done so too often.
    """
    kept = None
    if spec.on_divergence == "retry" and len(done.setbacks) < MOST_SETBACKS:
        kept = anchor.last()
    if kept is None:
        advice = "on_divergence: retry tries half of it by itself."
        if done.setbacks:
            advice = f"It went back {counted(len(done.setbacks), 'time')} before, to half the learning rate each time."
        there = checkpoint.path is not None and checkpoint.path.is_file()
        last = f" The last good checkpoint is {checkpoint.path}." if there else ""
        raise DivergedError(f"{error} {advice}{last}") from error
    return kept


def _note_setback(ctx: Context, name: str, done: Progress, step: int, per_epoch: int) -> None:
    rate = "half the learning rate" if not done.setbacks else f"1/{2 ** (len(done.setbacks) + 1)} of the learning rate"
    back = done.step // per_epoch + 1
    done.setbacks.append(f"{name}: training diverged at step {step + 1}; from epoch {back} on it has {rate}.")
    ctx.warn(done.setbacks[-1])


def _let_averages_follow(model: nn.Module, steps: int, ctx: Context, *, tell: bool) -> None:
    momentum = hasten_averages(model, steps)
    if momentum is not None and tell:
        ctx.note(f"batch norms average with a momentum of {momentum:.3g}: theirs is made for more than {steps:,} steps")


def _tell_again(ctx: Context, done: Progress, task: Task, spec: Settled) -> None:
    """Gives the warnings of a training that goes on, which an earlier run did not live to report."""
    for message in done.setbacks:
        ctx.warn(message)
    for length in range(1, len(done.curve) + 1):
        _judge(ctx, done.curve[:length], task, spec)


def _judge(ctx: Context, curve: list[dict[str, Any]], task: Task, spec: Settled) -> None:
    labels = task.dataset.validation.labels
    warning = no_better_than_guessing(curve[-1], labels, spec, first_loss=curve[0]["loss"])
    if warning is not None:
        ctx.warn(warning)


def _step(
    model: nn.Module,
    spec: Settled,
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
        with blaming(model, where):
            loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(model, spec, where)
        optimizer.step()
    return float(loss.detach())


def _close_epoch(
    model: nn.Module,
    task: Task,
    ctx: Context,
    spec: Settled,
    *,
    device: torch.device,
    epoch: int,
    done: Progress,
    how: dict[str, Any],
) -> dict[str, Any]:
    validation = task.dataset.validation
    entry: dict[str, Any] = {"epoch": epoch + 1, "loss": round(float(np.mean(done.losses)), 6), **how}
    if len(validation):
        figures = task.metrics(outputs_of(model, task, validation.inputs, device, fast=True), validation)
        found = judged(task.name, figures)
        if found is not None:
            figure, value = found
            entry[f"validation_{figure.key}"] = round(value, 4) if figure.unit == "%" else float(f"{value:.6g}")
    ctx.emit("epoch", epochs=spec.epochs, **entry)
    return entry
