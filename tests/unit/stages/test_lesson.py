"""What a student learns from: stored soft targets, or the teacher itself where they would be too large."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from edgecompress.context import Context
from edgecompress.recipe.schema import Recipe
from edgecompress.stages import base
from edgecompress.stages.base import Workbench
from edgecompress.store.store import Store
from edgecompress.training.soft_targets import OnlineTeacher, StoredTargets
from tests.unit.tasks.test_language import task_of


def bench(tmp_path: Any, notes: list[str], views: int = 8) -> Workbench:
    recipe = Recipe.model_validate(
        {
            "version": 1, "task": "language-modeling", "data": {"source": "text-files", "path": "x"},
            "teacher": {"model": "transformer"}, "student": {"model": "gru"}, "distill": {"views": views},
        }
    )  # fmt: skip
    result: Any = SimpleNamespace(fingerprint="ab", artifacts={base.WEIGHTS: SimpleNamespace(sha256="cd")})
    made = Workbench(
        recipe,
        Context(recipe.seed, listeners=[lambda event: notes.append(event.data["message"])]), Store(tmp_path),
        {"teacher": result},
    )  # fmt: skip
    task = task_of("byte")
    vars(made).update(
        dataset=task.dataset, task=task, teacher_task=task, device="cpu", load=lambda _stage: nn.Identity()
    )
    return made


def test_soft_targets_are_stored_where_they_fit(tmp_path: Any) -> None:
    notes: list[str] = []
    lesson = bench(tmp_path, notes).lesson(learn=True)
    assert isinstance(lesson.teacher, StoredTargets)
    assert lesson.teacher.views == 1  # nothing is augmented
    assert notes == []


def test_a_language_models_soft_targets_may_be_too_many(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 2 * 3 * 4 * 258  # bytes, windows, tokens, vocabulary
    notes: list[str] = []
    monkeypatch.setattr(base, "MOST_TARGET_BYTES", size)
    assert isinstance(bench(tmp_path, notes).lesson(learn=True).teacher, StoredTargets)
    monkeypatch.setattr(base, "MOST_TARGET_BYTES", size - 1)
    assert isinstance(bench(tmp_path, notes).lesson(learn=True).teacher, OnlineTeacher)
    assert "the teacher runs at every step" in notes[0]
    assert isinstance(bench(tmp_path, notes, views=0).lesson(learn=True).teacher, OnlineTeacher)
    assert len(notes) == 1
