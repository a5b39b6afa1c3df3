"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from edgecompress.training.defaults import Settled

#: Of batch norms in torch; and how often a training is at least as long as what they average over.
USUAL_MOMENTUM, AVERAGED = 0.1, 20.0


def rate_at(spec: Settled, progress: float) -> float:
    """Returns the learning rate at `progress` (0 at the first step, 1 after the last one).

    A linear warm-up over the share `warmup`, then down to zero by half a cosine (Loshchilov & Hutter 2017), a straight
    line, or not at all.
    """
    if spec.warmup > 0 and progress < spec.warmup:
        return spec.learning_rate * max(progress / spec.warmup, 0.01)
    share = (progress - spec.warmup) / max(1.0 - spec.warmup, 1e-9)
    match spec.schedule:
        case "cosine":
            return spec.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
        case "linear":
            return spec.learning_rate * max(1.0 - share, 0.0)
        case "constant":
            return spec.learning_rate


def hasten_averages(model: nn.Module, steps: int) -> float | None:
    """Lets a model's batch norms average over the last part of a training, where they would over more than that.

    Some networks are written for hundreds of thousands of steps (MobileNetV3's have a momentum of 0.01): after a few
    hundred they still hold much of what they began with, and the network, whose loss fell as it should, answers at
    chance in evaluation mode.

    Args:
        model: Changed in place.
        steps: Of the whole training.

    Returns:
        The momentum that was given, None where all averages follow fast enough.
    """
    wanted = min(USUAL_MOMENTUM, AVERAGED / max(steps, 1))
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    slow = [one for one in norms if one.momentum is not None and 0.0 < one.momentum < wanted]
    for norm in slow:
        norm.momentum = wanted
    return wanted if slow else None


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all of an optimizer's parameters a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def make_optimizer(model: nn.Module, spec: Settled) -> torch.optim.Optimizer:
    """Returns the optimizer of a training; only matrices and filters decay, biases and norms do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else free).append(parameter)
    groups: Iterable[dict[str, object]] = [
        {"params": decayed, "weight_decay": spec.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    match spec.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum, nesterov=spec.momentum > 0)
        case "adam":
            return torch.optim.Adam(groups, lr=spec.learning_rate)
        case "adamw":
            return torch.optim.AdamW(groups, lr=spec.learning_rate)
