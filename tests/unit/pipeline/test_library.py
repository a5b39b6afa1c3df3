"""`edgecompress.run`: the defaults it fills in, and what it hands to the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgecompress
from edgecompress.context import Event
from edgecompress.errors import DataError, ExitCode, RecipeError, UsageError
from edgecompress.pipeline.run import Outcome

SMALL: dict[str, Any] = {"version": 1, "student": {"model": "ds-cnn"}}


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Puts a list in the place of the pipeline, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("EDGECOMPRESS_STORE", "EDGECOMPRESS_TRUST"):
        monkeypatch.delenv(name, raising=False)
    found: dict[str, Any] = {}

    def pipeline(recipe: Any, *, store: Any, **options: Any) -> str:
        found.update(recipe=recipe, store=store.root, **options)
        return "outcome"

    monkeypatch.setattr("edgecompress.pipeline.library.run_pipeline", pipeline)
    return found


def test_defaults_are_those_of_the_command(handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert edgecompress.run({**SMALL, "name": "mine"}) == "outcome"  # type: ignore[comparison-overlap]
    assert handed.pop("recipe").name == "mine"
    assert handed == {
        "output": Path("runs/mine"), "store": Path("runs/.store"),
        "trust": False, "until": None, "fresh": False, "keep_cache": False, "strict": False, "listeners": (),
        "force": False, "recipe_file": None,
    }  # fmt: skip
    monkeypatch.setenv("EDGECOMPRESS_STORE", "elsewhere")
    monkeypatch.setenv("EDGECOMPRESS_TRUST", "1")
    edgecompress.run(SMALL)
    assert (handed["output"], handed["store"], handed["trust"]) == (Path("runs/recipe"), Path("elsewhere"), True)


def test_what_is_asked_for_wins(handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECOMPRESS_STORE", "elsewhere")
    Path("small.yaml").write_text("version: 1\nstudent: {model: ds-cnn}\n")
    listeners = [lambda _event: None]
    edgecompress.run(
        "small.yaml", output="out", overrides=["seed=7"], store="here", trust=True, until="export", fresh=True,
        strict=True, force=True, listeners=listeners,
    )  # fmt: skip
    recipe = handed.pop("recipe")
    assert (recipe.name, recipe.seed) == ("small", 7)
    assert handed == {
        "output": Path("out"), "store": Path("here"),
        "trust": True, "until": "export", "fresh": True, "keep_cache": False, "strict": True, "listeners": listeners,
        "force": True, "recipe_file": Path("small.yaml"),
    }  # fmt: skip


def test_a_recipe_that_was_loaded_runs_as_it_is(handed: dict[str, Any]) -> None:
    recipe = edgecompress.load_recipe(SMALL, ["seed=7"])
    edgecompress.run(recipe)
    assert handed["recipe"] is recipe
    with pytest.raises(UsageError, match="hand them to load_recipe"):
        edgecompress.run(recipe, overrides=["seed=8"])


def test_what_is_wrong_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"^recipe: student\.width: no such key in the block `student`"):
        edgecompress.run({"version": 1, "student": {"model": "ds-cnn", "width": 8}})
    with pytest.raises(UsageError, match="this recipe has the stages"):
        edgecompress.run(SMALL, until="nonsense")
    with pytest.raises(DataError, match=r"gone\.npz"):
        edgecompress.run({**SMALL, "data": {"source": "npz", "path": "gone.npz"}})


@pytest.mark.slow
def test_a_small_run_tells_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGECOMPRESS_STORE", raising=False)
    recipe = {
        "version": 1, "threads": 1, "data": {"source": "digits", "train_samples": 64, "test_samples": 32},
        "student": {"model": "mlp", "args": {"width": 8}, "train": {"epochs": 1}},
    }  # fmt: skip
    told: list[Event] = []
    outcome = edgecompress.run(recipe, until="distill", listeners=[told.append])
    assert isinstance(outcome, Outcome)
    assert (outcome.exit_code, outcome.output, outcome.report) == (ExitCode.DONE, Path("runs/recipe"), None)
    assert {"run-start", "epoch", "stage-end"} <= {event.kind for event in told}
    assert edgecompress.run(recipe, until="distill").plan.cached
