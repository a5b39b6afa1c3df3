"""A lock file is a recipe: its widths go into the prune block, what cannot be is told at its line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from edgecompress.errors import DataError, RecipeError
from edgecompress.machine import cores, cpu_name
from edgecompress.pipeline.lock_file import differences, lock_file
from edgecompress.pipeline.plan import Plan, Step
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.reading.lock import written
from edgecompress.recipe.schema import Recipe
from edgecompress.version import __version__

#: Every default below is filled in by the dump; with rules that a filled-in key would break if it counted as written.
RECIPES: dict[str, dict[str, Any]] = {
    "structured": {
        "teacher": {"model": "resnet9"}, "student": {"model": "resnet8"}, "distill": {"train": {"epochs": 3}},
        "prune": {"of": "latency", "ratio": 0.5, "steps": 2}, "quantize": {"mode": "ptq"},
    },
    "target": {"student": {"model": "ds-cnn"}, "prune": {"target": {"size_kib": 30}, "steps": 2}, "quantize": {}},
    "unstructured": {
        "teacher": {"model": "resnet9", "weights": "nine.pt"}, "prune": {"method": "unstructured", "pattern": "2:4"},
        "quantize": {"mode": "qat", "ranges": "lsq"}, "export": {"io": "uint8"},
    },
    "dynamic": {"student": {"model": "resnet8"}, "quantize": {"activations": "dynamic"}},
}  # fmt: skip
WIDTHS = {"stem.conv": [14, 12], "stack1.conv1": [12, 8]}


def lock(folder: Path, blocks: dict[str, Any], widths: dict[str, list[int]] | None = None, **changes: Any) -> Path:
    """Writes the lock file of a run of a recipe in `folder` and returns its path."""
    recipe = Recipe.model_validate({"version": 1, "name": "mine", **blocks}).model_copy(
        update={"base_dir": str(folder)}
    )
    text = lock_file(recipe, plan(), {"prune": SimpleNamespace(metrics={"step_widths": widths}, content={})}, "ab" * 32)
    document = {**yaml.safe_load(text), **changes}
    path = folder / "runs" / "mine" / "recipe.lock.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if not changes else yaml.safe_dump(document, sort_keys=False))
    return path


def plan(data: str = "data", **libraries: str) -> Plan:
    parts = {"libraries": {"torch": "2.13", "numpy": "2.4", **libraries}, "code": {"pruning": "ab"}}
    return Plan((Step("prune", "print", parts, None, "not made yet"),), data)


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.mark.parametrize("name", RECIPES)
def test_a_lock_file_is_the_recipe_of_its_run(tmp_path: Path, name: str) -> None:
    original = tmp_path / "mine.yaml"
    original.write_text(yaml.safe_dump({"version": 1, **RECIPES[name]}))
    recipe = load_recipe(original)
    again = load_recipe(lock(tmp_path, RECIPES[name]))
    assert again.model_dump() == recipe.model_dump()
    assert again.base_dir == recipe.base_dir == str(tmp_path)
    assert (recipe.locked, again.locked["model_sha256"]) == (None, "ab" * 32)


def test_its_widths_are_in_the_prune_block(tmp_path: Path) -> None:
    recipe = load_recipe(lock(tmp_path, RECIPES["structured"], WIDTHS))
    assert recipe.prune.widths == WIDTHS
    assert recipe.prune.steps_of_widths() == {name: tuple(widths) for name, widths in WIDTHS.items()}
    assert (recipe.prune.of, recipe.prune.ratio) == ("latency", 0.5)
    # A lock file of that run says the same.
    text = lock_file(recipe, plan(), {"prune": SimpleNamespace(metrics={"step_widths": WIDTHS}, content={})}, "ab" * 32)
    (tmp_path / "again.yaml").write_text(text)
    assert load_recipe(tmp_path / "again.yaml").model_dump() == recipe.model_dump()


def test_keys_can_be_overridden_but_not_what_the_widths_decide(tmp_path: Path) -> None:
    path = lock(tmp_path, RECIPES["structured"], WIDTHS)
    recipe = load_recipe(path, ["benchmark.runs=50", "name=other"])
    assert (recipe.benchmark.runs, recipe.name, recipe.prune.widths) == (50, "other", WIDTHS)
    found = problems(path, "prune.ratio=0.3", "prune.train.epochs=2")
    assert len(found) == 1
    assert "prune.ratio: is decided by the widths in the lock file (add `--set prune.widths=null`" in found[0]
    searched = load_recipe(path, ["prune.ratio=0.3", "prune.widths=null"])
    assert (searched.prune.ratio, searched.prune.widths) == (0.3, None)
    assert load_recipe(path, ["prune=null"]).prune is None


def test_combinations_are_still_checked(tmp_path: Path) -> None:
    path = lock(tmp_path, RECIPES["structured"], WIDTHS)
    assert any("export.io: `int16` does not go with" in problem for problem in problems(path, "export.io=int16"))
    assert any("prune.pattern: is used by" in problem for problem in problems(path, "prune.pattern=2:4"))


def test_problems_are_told_at_the_lines_of_the_lock_file(tmp_path: Path) -> None:
    path = lock(tmp_path, RECIPES["structured"], {**WIDTHS, "stack1.conv1": [12, 8, 4]})
    text = path.read_text().replace("seed: 0", "seed: -1").replace("libraries:", "libarries:")
    path.write_text(text.replace("\nmachine:", "\nmachine: fast\nsteps: {}\nmodel_sha256: 5\nrest:"))
    lines = path.read_text().splitlines()

    def line(start: str) -> int:
        return next(number for number, text in enumerate(lines, 1) if text.strip().startswith(start))

    found = problems(path)
    for expected in (
        f"{line('seed')}: seed: expected a whole number from 0",
        f"{line('stem.conv')}: prune.widths: `stack1.conv1` takes a width or a list of 2 (prune.steps)",
        f"{line('libarries')}: libarries: no such key in a lock file (did you mean `libraries`?)",
        f"{line('machine')}: machine: expected a block with `cpu` and `cores`, found the text `fast`",
        f"{line('model_sha256')}: model_sha256: expected the hash of model.tflite, found `5`",
        f"{line('rest')}: rest: no such key in a lock file",
    ):
        assert any(problem.startswith(expected) for problem in found), (expected, found)


def test_a_lock_file_without_a_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.lock.yaml"
    path.write_text("edgecompress: 0.1.0\nrecipe: none\n")
    assert problems(path) == ["2: recipe: expected the recipe of a run, found the text `none` (run the recipe again)"]
    path.write_text("version: 1\nteacher: {model: resnet9}\nlocked: {}\n")
    assert "locked: no such key at the top level" in problems(path)[0]


@pytest.mark.parametrize(
    ("block", "place"),
    [
        ({"data": {"source": "npz", "path": "x.npz"}}, "data.path"),
        ({"data": {"source": "python:mine:load"}}, "data.source"),
        ({"student": {"model": "resnet8", "weights": "x.pt"}}, "student.weights"),
        ({"student": {"model": "python:mine:net"}}, "student.model"),
        ({"teacher": {"model": "keras/x.h5"}}, "teacher.model"),
    ],
)  # fmt: skip
def test_the_original_folder_must_be_there_where_it_is_read_from(
    tmp_path: Path, block: dict[str, Any], place: str
) -> None:
    path = lock(tmp_path, {"student": {"model": "resnet8"}, **block}, base_dir="/nowhere/at/all")
    assert f"its base_dir /nowhere/at/all is not there, from which {place} is read" in problems(path)[0]
    path = lock(tmp_path, {"student": {"model": "resnet8"}, **block}, base_dir="../..")
    assert Path(load_recipe(path).base_dir).resolve() == tmp_path


def test_without_such_paths_the_folder_does_not_matter(tmp_path: Path) -> None:
    blocks = {"student": {"model": "resnet8", "weights": str(tmp_path / "x.pt")}}
    assert load_recipe(lock(tmp_path, blocks, base_dir="/nowhere")).base_dir == "/nowhere"
    path = lock(tmp_path, blocks)
    path.write_text(path.read_text().replace("base_dir:", "#"))
    assert load_recipe(path).base_dir == str(path.parent)


def test_a_resolved_recipe_comes_down_to_what_was_written() -> None:
    for blocks in RECIPES.values():
        given = {"version": 1, **blocks}
        thin = written(Recipe.model_validate(given).model_dump(mode="json"))
        assert Recipe.model_validate(thin) == Recipe.model_validate(given)
        assert all(set(thin[name]) <= set(block) for name, block in blocks.items())
    assert written({"version": 2}) is None


def test_what_is_not_as_it_was_is_named() -> None:
    machine = {"cpu": cpu_name(), "cores": cores()}
    same = {"edgecompress": __version__, "libraries": {"torch": "2.13"}, "machine": machine, "data_sha256": "data"}
    assert differences(same, plan()) == []
    assert differences({"edgecompress": __version__}, plan()) == []
    other = {"libraries": {"torch": "2.12", "numpy": None}, "machine": {"cpu": "Z80", "cores": machine["cores"]}}
    assert differences({**same, **other, "edgecompress": "0.0.1"}, plan()) == [
        f"edgecompress {__version__} here, 0.0.1 there", "numpy 2.4 here, missing there", "torch 2.13 here, 2.12 there",
        f"cpu {machine['cpu']} here, Z80 there",
    ]  # fmt: skip


def test_other_data_can_repeat_nothing() -> None:
    with pytest.raises(DataError, match=r"the data is not that of the lock file \(SHA-256 new here, old there\)"):
        differences({"data_sha256": "old"}, plan("new"))
