"""A training that was cut off goes on where it was and ends with the same bits."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.context import Context, Event, plain_digest
from edgecompress.errors import ResourceError, StaleInputError
from edgecompress.recipe.schema import Recipe
from edgecompress.store.seals import Seal
from edgecompress.store.store import Store
from edgecompress.training import checkpoint as module
from edgecompress.training.fit import fit
from edgecompress.training.loss import Lesson
from tests.unit.training.training_task import BlobTask, settled

STEPS = 32  # 4 epochs of 8 batches


class CutError(Exception):
    """Stands for a kill."""


class Counter:
    """A keeper: counts steps, and fails at one."""

    def __init__(self, cut_after: int | None = None) -> None:
        self.count, self.cut_after, self.shares = 0, cut_after, list[float]()

    def after_step(self, _optimizer: torch.optim.Optimizer) -> None:
        if self.count == self.cut_after:
            raise CutError
        self.count += 1

    def state(self) -> dict[str, int]:
        return {"count": self.count}

    def restore(self, state: dict[str, int]) -> None:
        self.count = state["count"]


class Noise(nn.Module):
    """Draws from NumPy's and Python's global generators, as a user's model may."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (0.9 + 0.1 * np.random.standard_normal() + 0.1 * random.gauss(0, 1)) if self.training else x  # noqa: NPY002


def net() -> nn.Module:
    torch.manual_seed(0)
    # Dropout draws from torch's random state, batch norm keeps buffers.
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), Noise(), nn.Linear(8, 2))


def train(
    model: nn.Module,
    folder: Path | None,
    counter: Counter,
    events: list[Event] | None = None,
    at_progress: Callable[[float], None] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    **spec: Any,
) -> list[dict[str, Any]]:
    recipe = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}})
    listeners = [events.append] if events is not None else []
    ctx = Context(recipe.seed, listeners=listeners, stage="teacher", checkpoints=folder)
    settings = settled(**({"epochs": 4, "batch_size": 32, "learning_rate": 0.05} | spec))
    return fit(
        model, settings, BlobTask(), ctx, lesson=Lesson(), device=torch.device("cpu"), name="net", span=span,
        after_step=counter.after_step, at_progress=at_progress, keeper=counter,
    )  # fmt: skip


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@functools.cache
def undisturbed(optimizer: str = "sgd") -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Returns the weights and the curve that the training comes to when nothing ends it."""
    model = net()
    curve = train(model, None, Counter(), optimizer=optimizer)
    return weights(model), curve


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.0)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("cut_after", [1, 7, 8, 9, 20, 31])
def test_a_training_that_was_cut_off_ends_with_the_same_bits(tmp_path: Path, optimizer: str, cut_after: int) -> None:
    expected, curve = undisturbed(optimizer)
    with pytest.raises(CutError):
        train(net(), tmp_path, Counter(cut_after), optimizer=optimizer)
    torch.rand(100)  # the random state of another process
    again, counter, events = net(), Counter(), list[Event]()
    assert train(again, tmp_path, counter, events, optimizer=optimizer) == curve
    assert_same(expected, weights(again))
    assert counter.count == STEPS
    assert [e.data["message"] for e in events if e.kind == "note"] == [f"net: {cut_after} of 32 steps were done before"]
    trained = [e.data["epoch"] for e in events if e.kind == "epoch"]
    assert trained == list(range(cut_after // 8 + 1, 5))


@pytest.mark.usefixtures("always")
def test_a_training_that_was_cut_off_twice_ends_with_the_same_bits(tmp_path: Path) -> None:
    for cut_after in (5, 19):
        with pytest.raises(CutError):
            train(net(), tmp_path, Counter(cut_after))
    again = net()
    train(again, tmp_path, Counter())
    assert_same(undisturbed()[0], weights(again))


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first, second, counter = net(), net(), Counter(cut_after=STEPS)
    curve = train(first, tmp_path, Counter())
    assert train(second, tmp_path, counter) == curve  # a step would be one too many for the counter
    assert_same(weights(first), weights(second))
    assert not second.training


@pytest.mark.usefixtures("always")
def test_parts_of_a_training_are_resumed_each(tmp_path: Path) -> None:
    undisturbed = net()
    train(undisturbed, None, Counter(), span=(0.25, 0.8))
    with pytest.raises(CutError):
        train(net(), tmp_path, Counter(10), span=(0.25, 0.8))
    again = net()
    train(again, tmp_path, Counter(), span=(0.25, 0.8))
    assert_same(weights(undisturbed), weights(again))


@pytest.mark.usefixtures("always")
def test_what_happened_at_a_share_of_the_training_happens_again_before_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(CutError):
        train(net(), tmp_path, Counter(20))
    shares: list[float] = []
    train(net(), tmp_path, Counter(), at_progress=shares.append)
    assert shares[:2] == [19 / STEPS, 20 / STEPS]


def test_checkpoints_come_by_the_clock(tmp_path: Path) -> None:
    clock = [0.0]
    ctx = Context(checkpoints=tmp_path)
    checkpoint = module.Checkpoint(ctx, "net", now=lambda: clock[0])
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clock[0] = module.INTERVAL_S - 1
    assert not checkpoint.due()
    clock[0] = module.INTERVAL_S
    assert checkpoint.due()
    checkpoint.save(module.Progress(3), model, optimizer, None)
    assert not checkpoint.due()
    saved = checkpoint.load()
    assert saved is not None
    assert saved["step"] == 3
    assert module.INTERVAL_S <= 60


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "harm", [lambda content: content[:-5], lambda content: b"", lambda content: content[:100] + b"\0\0" + content[102:]]
)
def test_a_damaged_checkpoint_is_named_and_the_training_starts_anew(
    tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(CutError):
        train(net(), tmp_path, Counter(12))
    path = tmp_path / "net.checkpoint"
    path.write_bytes(harm(path.read_bytes()))
    again, events = net(), list[Event]()
    train(again, tmp_path, Counter(), events)
    assert_same(undisturbed()[0], weights(again))
    (note,) = [e.data["message"] for e in events if e.kind == "note"]
    assert "net.checkpoint is damaged" in note
    assert "starts anew" in note


def forge(path: Path, **changes: Any) -> None:
    """Writes a checkpoint whose hash is right, as anybody can."""
    saved = torch.load(io.BytesIO(path.read_bytes()[module.DIGEST :]), weights_only=True)
    buffer = io.BytesIO()
    torch.save({**saved, **changes}, buffer)
    digest = plain_digest(f"checkpoint {path.parent.name} {path.name}", buffer.getvalue())
    path.write_bytes(digest.encode() + buffer.getvalue())


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "changes",
    [
        {"model": {}}, {"model": nn.Linear(2, 2).state_dict()}, {"model": 3}, {"optimizer": {}}, {"random": {}},
        {"random": None}, {"kept": None}, {"kept": []}, {"step": 10**9}, {"step": -1}, {"step": "x"}, {"curve": 3},
        {"curve": [{}]}, {"losses": ["x"]}, {"setbacks": [3]}, {"used": 3}, {"used": {"a": "b"}},
    ],
)  # fmt: skip
def test_a_checkpoint_of_something_else_starts_the_training_anew(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CutError):
        train(net(), tmp_path, Counter(12))
    forge(tmp_path / "net.checkpoint", **changes)
    again, events = net(), list[Event]()
    train(again, tmp_path, Counter(), events)
    assert_same(undisturbed()[0], weights(again))
    (note,) = [e.data["message"] for e in events if e.kind == "note"]
    assert note.endswith("this training starts anew")


@pytest.mark.usefixtures("always")
def test_a_checkpoint_is_for_one_training_and_of_one_key(tmp_path: Path) -> None:
    with pytest.raises(CutError):
        train(net(), tmp_path / "one", Counter(12))
    ctx = Context(checkpoints=tmp_path / "one")
    assert module.Checkpoint(ctx, "net").load() is not None
    keyed = Context(checkpoints=tmp_path / "one", digest=Seal(b"key").digest)
    assert module.Checkpoint(keyed, "net").load() is None
    (tmp_path / "one").rename(tmp_path / "other")
    assert module.Checkpoint(Context(checkpoints=tmp_path / "other"), "net").load() is None


@pytest.mark.usefixtures("always")
def test_a_checkpoint_that_began_from_other_soft_targets_is_none(tmp_path: Path) -> None:
    def context() -> Context:
        return Context(checkpoints=tmp_path)

    one, other = {"outputs.npy": "a" * 64}, {"outputs.npy": "b" * 64}
    ctx, model = context(), net()
    ctx.use("soft-targets-1", one)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    module.Checkpoint(ctx, "net").save(module.Progress(3), model, optimizer, None)
    assert module.Checkpoint(ctx, "net").load() is not None
    later = context()
    assert module.Checkpoint(later, "net").load() is not None
    assert later.used == {"soft-targets-1": one}
    with pytest.raises(StaleInputError, match="soft-targets had to be made again, and has other bytes"):
        later.use("soft-targets-1", other)
    assert module.Checkpoint(later, "net").load() is None  # now it is known what there is


def test_outside_of_a_run_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(net(), None, Counter())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("always")
def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _data: bytes) -> None:
        raise ResourceError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(module, "write_bytes", refuse)
    with pytest.raises(ResourceError, match="No space left"):
        train(net(), tmp_path, Counter())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    store, dead = Store(tmp_path), 2**22 + 1  # beyond the largest process number
    left = tmp_path / f".teacher-{'0' * 20}.{dead}.partial"
    other = tmp_path / f".teacher-{'1' * 20}.{dead}.partial"
    left.mkdir()
    other.mkdir()
    with store.workspace("teacher", "0" * 64) as work:
        assert work.is_dir()
        assert not left.exists()
        assert other.exists()
