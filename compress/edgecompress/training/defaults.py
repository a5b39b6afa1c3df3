"""What a recipe leaves open of a training, chosen when data and network are known; and which samples make a batch."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.recipe.training import BASE_LEARNING_RATE, BASE_MOMENTUM, BASE_WEIGHT_DECAY, Habits, TrainSpec
from edgecompress.wording import counted

#: An epoch has so many steps, where that leaves batches as large as these at least.
STEPS_PER_EPOCH, SMALLEST_BATCH, LARGEST_BATCH = 20, 8, 256
#: Epochs do not become more than so many for the sake of steps: a few samples are learnt by heart long before.
MOST_EPOCHS = 200
#: Below this size of a batch SGD's learning rate does not fall any more.
SLOWEST_BATCH = 64
#: Share of the learning rate that SGD takes where no batch norms even out what it does to deep layers.
WITHOUT_NORMS = 0.2


class Settled(TrainSpec):
    """A training of which everything is known."""

    epochs: int
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: float
    batch_size: int
    weight_decay: float
    momentum: float


def settle(spec: TrainSpec, model: nn.Module, samples: int, habits: Habits) -> Settled:
    """Returns a training with nothing left open; what the recipe says stays as it is.

    Args:
        spec: As the recipe has it.
        model: What learns: whether batch norms hold its activations decides on optimizer and learning rate.
        samples: How many there are to learn from.
        habits: How this block of a recipe is trained.
    """
    normed = has_batch_norms(model)
    by_network: Literal["sgd", "adamw"] = "sgd" if normed or spec.momentum is not None else "adamw"
    optimizer = spec.optimizer or habits.optimizer or by_network
    batch_size = spec.batch_size or batch_size_for(samples, habits.largest_batch)
    rate = spec.learning_rate
    if rate is None and habits.rate is not None and optimizer != "sgd":
        rate = habits.rate
    elif rate is None:
        rate = rate_for(optimizer, batch_size, normed=normed) * habits.rate_share
    per_epoch = steps_per_epoch(samples, batch_size, spec.last_batch)
    known = {
        "epochs": spec.epochs or epochs_for(per_epoch, habits),
        "optimizer": optimizer,
        "learning_rate": rate,
        "batch_size": batch_size,
        "weight_decay": BASE_WEIGHT_DECAY[optimizer] if spec.weight_decay is None else spec.weight_decay,
        "momentum": BASE_MOMENTUM if spec.momentum is None else spec.momentum,
    }
    return Settled.model_validate({**spec.model_dump(), **known})


def batch_size_for(samples: int, largest: int = LARGEST_BATCH) -> int:
    """Returns the largest power of two with which an epoch has 20 steps, from 8 to 256.

    >>> [batch_size_for(samples) for samples in (9, 432, 1_300, 54_000)]
    [8, 16, 64, 256]
    """
    size = SMALLEST_BATCH
    while size * 2 <= largest and math.ceil(samples / (size * 2)) >= STEPS_PER_EPOCH:
        size *= 2
    return size


def epochs_for(per_epoch: int, habits: Habits) -> int:
    """Returns the passes over the data that a block usually takes, or more, for as many steps as it takes at least."""
    return max(habits.epochs, min(math.ceil(habits.steps / per_epoch), MOST_EPOCHS))


def rate_for(optimizer: str, batch_size: int, *, normed: bool) -> float:
    """Returns the peak learning rate from scratch.

    SGD's goes with the root of the batch size from 64 to 256; a lower one below that learns too little in the steps
    there are. Adam's steps hardly depend on it. See docs/training.md for what was measured.
    """
    if optimizer != "sgd":
        return BASE_LEARNING_RATE[optimizer]
    share = min(max(batch_size, SLOWEST_BATCH), LARGEST_BATCH) / LARGEST_BATCH
    return float(f"{BASE_LEARNING_RATE['sgd'] * math.sqrt(share) * (1.0 if normed else WITHOUT_NORMS):.3g}")


def has_batch_norms(model: nn.Module) -> bool:
    """Returns whether at least every other layer with weights has a batch norm."""
    modules = list(model.modules())
    weighted = sum(isinstance(m, nn.Linear | nn.modules.conv._ConvNd) for m in modules)  # noqa: SLF001 - all of them
    norms = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules)  # noqa: SLF001 - all of them
    return norms > 0 and 2 * norms >= weighted


def steps_per_epoch(samples: int, batch_size: int, last_batch: str = "use") -> int:
    """Returns how many batches an epoch has; at least one.

    >>> [steps_per_epoch(samples, 8) for samples in (3, 16, 17, 18)], steps_per_epoch(18, 8, "drop")
    ([1, 2, 2, 3], 2)
    """
    full, rest = divmod(samples, batch_size)
    return max(full + (last_batch == "use" and rest > 1), 1)


def batch_at(order: NDArray[np.int64], position: int, spec: Settled) -> NDArray[np.int64]:
    """Returns the samples of an epoch's batch: a single one that is left over at the end joins the last batch.

    A batch norm cannot be trained on one sample.
    """
    start, end = position * spec.batch_size, (position + 1) * spec.batch_size
    alone = spec.last_batch == "use" and len(order) == end + 1 and spec.batch_size > 1
    return order[start : end + alone]


def require_batches(model: nn.Module, spec: TrainSpec, samples: int) -> None:
    """Refuses batches of one sample for a model with batch norms.

    Raises:
        ModelError: It has some.
    """
    if spec.batch_size != 1 and samples != 1:
        return
    norms = [path for path, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    if norms:
        what = "batch_size is 1" if samples != 1 else "there is one training sample"
        raise ModelError(
            f"batches of one sample and batch norms do not go together: {what}, and the model has "
            f"{counted(len(norms), 'batch norm')} ({norms[0] or 'itself'} first), which take the spread of several. "
            "Set batch_size to 2 at least (8 or more is better), or use a model without batch norms."
        )


def described(spec: Settled, samples: int) -> str:
    """Returns how a model is trained, in words."""
    steps = steps_per_epoch(samples, spec.batch_size, spec.last_batch)
    return (
        f"{counted(spec.epochs, 'epoch')} of {counted(steps, 'step')} on {counted(samples, 'sample')}, "
        f"batches of {spec.batch_size:,}, {spec.optimizer} with a learning rate of {spec.learning_rate:.3g}"
    )
