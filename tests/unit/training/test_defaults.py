"""What a recipe leaves open of a training, and which samples make a batch."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError
from edgecompress.models.building import BUILT_IN
from edgecompress.recipe.schema import FINE_TUNING, DistillSpec, ModelSpec, PruneSpec, QuantizeSpec, TrainSpec
from edgecompress.recipe.training import Habits
from edgecompress.training import defaults
from edgecompress.training.defaults import (
    batch_at,
    batch_size_for,
    described,
    has_batch_norms,
    require_batches,
    settle,
    steps_per_epoch,
)
from tests.unit.training.training_task import settled

HABITS = Habits(epochs=15, steps=1000)
NORMED = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
PLAIN = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


def test_its_examples() -> None:
    assert doctest.testmod(defaults).failed == 0


@pytest.mark.parametrize("samples", [1, 2, 9, 17, 160, 319, 432, 1_000, 5_119, 5_121, 54_000, 100_000])
def test_an_epoch_has_twenty_steps_where_there_are_samples_for_them(samples: int) -> None:
    size = batch_size_for(samples)
    assert size in {8, 16, 32, 64, 128, 256}
    steps = steps_per_epoch(samples, size)
    assert steps >= 20 or size == 8
    assert size == 256 or math.ceil(samples / (2 * size)) < 20  # no larger one does


@pytest.mark.parametrize(
    ("samples", "epochs", "batch_size"), [(6, 200, 8), (108, 72, 8), (432, 38, 16), (54_000, 15, 256)]
)
def test_few_samples_are_seen_more_often(samples: int, epochs: int, batch_size: int) -> None:
    found = settle(TrainSpec(), NORMED, samples, HABITS)
    assert (found.epochs, found.batch_size) == (epochs, batch_size)


@pytest.mark.parametrize(
    ("model", "given", "optimizer", "rate", "decay"),
    [
        (NORMED, {}, "sgd", 0.1, 5e-4),
        (NORMED, {"batch_size": 128}, "sgd", 0.0707, 5e-4),
        (NORMED, {"batch_size": 64}, "sgd", 0.05, 5e-4),
        (NORMED, {"batch_size": 8}, "sgd", 0.05, 5e-4),
        (NORMED, {"batch_size": 1024}, "sgd", 0.1, 5e-4),
        (PLAIN, {}, "adamw", 2e-3, 0.01),
        (PLAIN, {"batch_size": 64}, "adamw", 2e-3, 0.01),
        (PLAIN, {"optimizer": "sgd"}, "sgd", 0.02, 5e-4),
        (PLAIN, {"momentum": 0.8}, "sgd", 0.02, 5e-4),
        (NORMED, {"optimizer": "adam", "weight_decay": 0.1}, "adam", 2e-3, 0.1),
        (PLAIN, {"learning_rate": 0.3, "batch_size": 8}, "adamw", 0.3, 0.01),
    ],
)
def test_rates_go_with_optimizer_batch_and_network(
    model: nn.Module, given: dict[str, object], optimizer: str, rate: float, decay: float
) -> None:
    found = settle(TrainSpec.model_validate(given), model, 54_000, HABITS)
    assert (found.optimizer, found.learning_rate, found.weight_decay) == (optimizer, pytest.approx(rate), decay)
    assert found.momentum == given.get("momentum", 0.9)


def test_blocks_have_habits_of_their_own() -> None:
    def of(habits: Habits) -> tuple[str, float, int, int]:
        found = settle(TrainSpec(), NORMED, 54_000, habits)
        return found.optimizer, pytest.approx(found.learning_rate), found.batch_size, found.epochs

    fine = ModelSpec.model_validate({"model": "resnet8", "weights": "a.pt", "train": {}})
    assert of(fine.habits) == ("sgd", 0.01, 256, 15)
    assert of(DistillSpec().habits) == ("sgd", 0.1, 256, 20)
    assert of(PruneSpec().habits) == ("sgd", 0.02, 256, 5)
    assert of(FINE_TUNING) == ("adamw", 5e-5, 32, 3)
    quantize = QuantizeSpec.model_validate({})
    found = settle(quantize.train, NORMED, 54_000, quantize.habits)
    assert (found.optimizer, found.learning_rate, found.epochs) == ("adam", pytest.approx(1e-4), 3)


def test_what_the_recipe_says_holds() -> None:
    spec = TrainSpec(epochs=3, optimizer="adam", learning_rate=0.5, batch_size=7, weight_decay=0.0, momentum=0.5)
    found = settle(spec, NORMED, 100, HABITS)
    assert {**found.model_dump(), **spec.model_dump()} == found.model_dump()


def test_which_networks_have_batch_norms() -> None:
    pictures, series = Ends((3, 32, 32), (4,)), Ends((32, 6), (4,), "series")
    known = {
        name: has_batch_norms(BUILT_IN[name](pictures.input_shape, 4))
        for name in ("resnet8", "resnet9", "resnet20", "ds-cnn", "mobilenet-v1", "mobilenet-v2")
    }
    assert all(known.values()), known
    assert not has_batch_norms(BUILT_IN["transformer"](series))
    assert not has_batch_norms(nn.Sequential(*PLAIN, nn.LayerNorm(2)))
    assert not has_batch_norms(nn.ReLU())


@pytest.mark.parametrize(
    ("samples", "size", "last", "lengths"),
    [
        (16, 8, "use", [8, 8]),
        (17, 8, "use", [8, 9]),
        (18, 8, "use", [8, 8, 2]),
        (18, 8, "drop", [8, 8]),
        (17, 8, "drop", [8, 8]),
        (6, 8, "use", [6]),
        (6, 8, "drop", [6]),
        (1, 8, "use", [1]),
        (9, 8, "use", [9]),
        (3, 1, "use", [1, 1, 1]),
        (3, 2, "use", [3]),
    ],
)
def test_no_batch_is_a_single_sample(samples: int, size: int, last: str, lengths: list[int]) -> None:
    order = np.random.default_rng(0).permutation(samples)
    spec = settled(batch_size=size, last_batch=last)
    batches = [batch_at(order, position, spec) for position in range(steps_per_epoch(samples, size, last))]
    assert [len(batch) for batch in batches] == lengths
    if last == "use":
        assert np.concatenate(batches).tolist() == order.tolist()


@pytest.mark.parametrize(("size", "samples", "said"), [(1, 100, "batch_size is 1"), (8, 1, "one training sample")])
def test_batches_of_one_do_not_go_with_batch_norms(size: int, samples: int, said: str) -> None:
    with pytest.raises(ModelError, match=rf"batches of one sample and batch norms .* {said}.*1 batch norm \(1 first\)"):
        require_batches(NORMED, TrainSpec(batch_size=size), samples)
    require_batches(PLAIN, TrainSpec(batch_size=size), samples)
    require_batches(NORMED, TrainSpec(), 2)


def test_a_training_is_told_in_words() -> None:
    assert described(settle(TrainSpec(), NORMED, 432, HABITS), 432) == (
        "38 epochs of 27 steps on 432 samples, batches of 16, sgd with a learning rate of 0.05"
    )
