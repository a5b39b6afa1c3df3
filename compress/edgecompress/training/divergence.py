"""What tells that a training has diverged, and what tells that it has learnt nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.errors import DivergedError
from edgecompress.training.defaults import Settled

#: How often a training may go back before it is given up.
MOST_SETBACKS = 3
#: Standard deviations that an accuracy must lie above guessing, to be more than luck.
SIGMAS = 2.0
#: A loss that is still this share of the first epoch's has not fallen.
STUCK = 0.9
#: Where luck alone makes more points than this, a validation split is too small to tell.
LARGEST_LUCK = 10.0
#: What training changes beside parameters.
_STATISTICS = frozenset({"running_mean", "running_var"})


def diverged(what: str, where: str, spec: Settled) -> DivergedError:
    """Returns the error for something that is no finite number any more, with what to try."""
    return DivergedError(
        f"{what} ({where}): training has diverged. Try a learning_rate below {spec.learning_rate:g} or clip_norm: 1."
    )


def clip_gradients(model: nn.Module, spec: Settled, where: str) -> None:
    """Clips the gradients where the recipe says so.

    Raises:
        DivergedError: One is not finite; the message names its parameter.
    """
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if not math.isfinite(float(norm)):
        found = (name for name, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad))
        culprit = next(found, None)
        what = "the gradients are too large" if culprit is None else f"the gradient of {culprit} is not finite"
        raise diverged(what, where, spec)
    if spec.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(model.parameters(), spec.clip_norm, norm)


def check_weights(model: nn.Module, spec: Settled, where: str) -> None:
    """Lets a model pass of which all that is learnt is finite: its weights, and its batch norms' averages.

    Averages overflow first where activations grow.

    Raises:
        DivergedError: One is not; the message names it.
    """
    broken = first_broken(model.state_dict(), learned_names(model))
    if broken is not None:
        raise diverged(f"{broken} has values that are not finite", where, spec)


def learned_names(model: nn.Module) -> frozenset[str]:
    """Returns the names of what is learnt, under each name that it has."""
    return frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))


def first_broken(state: Mapping[str, torch.Tensor], learned: Collection[str]) -> str | None:
    """Returns the name of the first tensor with values that training never leaves there, None where there is none."""
    for name, kept in state.items():
        # A mask that adds minus infinity is as its author wrote it.
        statistic = name.rpartition(".")[2] in _STATISTICS or name in learned
        if not (_is_finite(kept) if statistic else not bool(torch.isnan(kept).any())):
            return name
    return None


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def guessing(labels: NDArray[Any]) -> tuple[float, float] | None:
    """Returns what always answering the most frequent class scores, and what luck may add to it, in percent points.

    None where there are no classes to guess, or too few samples to tell.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        return None
    share = float(np.bincount(labels).max()) / len(labels)
    luck = 100.0 * SIGMAS * math.sqrt(share * (1.0 - share) / len(labels))
    return (100.0 * share, luck) if 0.0 < luck <= LARGEST_LUCK else None


def no_better_than_guessing(
    entry: dict[str, Any], labels: NDArray[Any], spec: Settled, *, first_loss: float
) -> str | None:
    """Returns a warning where a model has learnt nothing by the end of its warm-up, or of its training; else None.

    After the warm-up the loss must say so too: the averages of a batch norm follow what a model learns later.

    Args:
        entry: Of the training's curve.
        labels: Of the validation split.
        spec: Its warm-up counts.
        first_loss: Of the first epoch.
    """
    epoch, accuracy = int(entry["epoch"]), entry.get("validation_accuracy")
    warm = max(math.ceil(spec.warmup * spec.epochs), 2)
    stuck = epoch == warm and entry["loss"] >= STUCK * first_loss
    if accuracy is None or not (stuck or epoch == spec.epochs):
        return None
    level = guessing(labels)
    if level is None or accuracy > sum(level):
        return None
    when = "In the end" if epoch == spec.epochs else "After the warm-up"
    return (
        f"{when} (epoch {epoch} of {spec.epochs}) the validation accuracy is {accuracy:.1f} %: no better than always "
        f"answering the most frequent class ({level[0]:.1f} %). Check labels, inputs and learning_rate."
    )
