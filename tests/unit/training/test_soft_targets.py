"""Stored soft targets are the teacher's own, are made once, and outlive the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.context import Context, Event
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store
from edgecompress.training import soft_targets
from edgecompress.training.layout import MARK, Layout, safe_kernels
from edgecompress.training.soft_targets import STAGE, OnlineTeacher, StoredTargets
from tests.unit.training.training_task import BlobTask

CPU = torch.device("cpu")


class Teacher(nn.Module):
    """Counts the samples it was asked about."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 2))
        self.scale = scale
        self.asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.asked += len(x)
        return self.layers(x) * self.scale


class Setup:
    """A store, a task and a teacher, and as many targets on them as a test wants."""

    def __init__(self, root: Path) -> None:
        self.task = BlobTask()
        self.root = root
        self.teacher = Teacher().train()
        self.loads = 0
        self.events: list[Event] = []

    def stored(self, fingerprint: str = "t", views: int = 3) -> StoredTargets:
        def load() -> nn.Module:
            self.loads += 1
            return self.teacher

        recipe = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}})
        ctx = Context(recipe.seed, listeners=[self.events.append], stage="distill")
        return StoredTargets(
            Store(self.root), ctx, self.task, views=views, teacher_fingerprint=fingerprint, teacher=load, device=CPU
        )

    def batch(self, index: np.ndarray, view: int) -> torch.Tensor:
        return self.task.augmented(self.task.dataset.train.inputs[index], index, view)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "store")


@pytest.mark.parametrize("view", [0, 2])
def test_they_equal_the_online_teacher_up_to_float16_in_any_order(setup: Setup, view: int) -> None:
    stored, online = setup.stored(), OnlineTeacher(setup.teacher, CPU, (4,))
    order = np.random.default_rng(0).permutation(256)
    for start in range(0, 256, 48):
        index = order[start : start + 48]
        x = setup.batch(index, view)
        found, expected = stored.targets(index, view, x), online.targets(index, view, x)
        assert found.dtype == torch.float32
        # float16 keeps 11 bits.
        assert bool(((found - expected).abs() <= expected.abs() * 2**-11 + 1e-6).all())


def test_views_differ_as_their_inputs_do(setup: Setup) -> None:
    stored, index = setup.stored(), np.arange(10)
    first, third = (stored.targets(index, view, setup.batch(index, view)) for view in (0, 2))
    assert not torch.equal(first, third)


def test_each_view_is_computed_when_it_is_first_asked_for_and_only_then(setup: Setup) -> None:
    stored, index = setup.stored(), np.arange(4)
    assert stored.views == 3
    assert setup.loads == 0
    for _ in range(5):
        stored.targets(index, 1, setup.batch(index, 1))
    assert setup.teacher.asked == 256
    stored.targets(index, 0, setup.batch(index, 0))
    assert setup.teacher.asked == 512
    assert setup.loads == 1
    assert len(list(setup.root.glob("soft-targets-*"))) == 2


def test_another_instance_reads_them_from_disk_without_the_teacher(setup: Setup) -> None:
    index = np.array([200, 3, 77])
    x = setup.batch(index, 1)
    first = setup.stored().targets(index, 1, x)
    again = setup.stored().targets(index, 1, x)
    assert torch.equal(first, again)
    assert (setup.loads, setup.teacher.asked) == (1, 256)


def test_another_teacher_has_targets_of_its_own(setup: Setup) -> None:
    index = np.arange(3)
    x = setup.batch(index, 0)
    first = setup.stored("one").targets(index, 0, x)
    setup.teacher.scale = 2.0
    second = setup.stored("two").targets(index, 0, x)
    torch.testing.assert_close(second, 2 * first, rtol=2e-3, atol=1e-6)


def test_a_damaged_file_is_made_again(setup: Setup) -> None:
    index = np.arange(3)
    x = setup.batch(index, 0)
    first = setup.stored().targets(index, 0, x)
    (file,) = setup.root.glob(f"{STAGE}-*/outputs.npy")
    file.write_bytes(file.read_bytes()[:-8] + bytes(8))
    assert torch.equal(setup.stored().targets(index, 0, x), first)
    assert setup.teacher.asked == 512


def test_large_outputs_stay_finite(setup: Setup) -> None:
    setup.teacher.scale = 1e9
    index = np.arange(256)
    found = setup.stored().targets(index, 0, setup.batch(index, 0))
    assert bool(torch.isfinite(found).all())
    assert found.abs().max() == 60_000


def test_progress_is_told_to_the_end(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_targets, "BATCH_SIZE", 100)
    index = np.arange(256)
    batched = setup.stored().targets(index, 1, setup.batch(index, 1))
    told = [(event.data["done"], event.data["total"]) for event in setup.events if event.kind == "progress"]
    assert told == [(100, 256), (200, 256), (256, 256)]
    assert all(event.data["unit"] == "soft targets, view 2" for event in setup.events)
    monkeypatch.setattr(soft_targets, "BATCH_SIZE", 500)
    setup.root = setup.root.with_name("other")
    whole = setup.stored().targets(index, 1, setup.batch(index, 1))
    torch.testing.assert_close(batched, whole, rtol=2**-10, atol=1e-6)


def test_targets_learn_nothing(setup: Setup) -> None:
    index = np.arange(3)
    x = setup.batch(index, 0).requires_grad_()
    for teacher in (setup.stored(), OnlineTeacher(setup.teacher, CPU, (4,))):
        assert not teacher.targets(index, 0, x).requires_grad
    assert OnlineTeacher(setup.teacher, CPU, (4,)).views is None


def test_they_do_not_depend_on_the_kernels_of_who_asks_first(setup: Setup) -> None:
    """They are kept for all stages: a student that does without some kernels must not choose the teacher's."""
    seen: list[bool] = []
    setup.teacher.register_forward_pre_hook(lambda *_: seen.append(torch.backends.mkldnn.enabled))
    student, index = nn.Linear(2, 2), np.arange(4)
    setattr(student, MARK, Layout.PLAIN)
    stored, usual = setup.stored(), torch.backends.mkldnn.enabled
    with safe_kernels(student, CPU):
        assert not torch.backends.mkldnn.enabled
        stored.targets(index, 0, setup.batch(index, 0))
        assert not torch.backends.mkldnn.enabled
    assert set(seen) == {usual}
    assert torch.backends.mkldnn.enabled == usual
