"""Recipes that a program hands over as a dict: read as a file with the same content is, mistakes included."""

from __future__ import annotations

import decimal
import enum
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.errors import RecipeError
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.reading.source import parse

ROOT = Path(__file__).parents[4]
MISTAKES = ROOT / "tests" / "golden" / "recipe_errors"
SMALL: dict[str, Any] = {"version": 1, "teacher": {"model": "resnet9"}}


def problems(content: Any, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(content, overrides)
    assert all(problem.line == 0 for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def with_teacher(**keys: Any) -> dict[str, Any]:
    return {"version": 1, "teacher": {"model": "python:own:net", **keys}}


def test_name_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(SMALL)
    assert (recipe.name, recipe.base_dir) == ("recipe", str(tmp_path))
    assert load_recipe({**SMALL, "name": "mine"}).name == "mine"
    assert SMALL == {"version": 1, "teacher": {"model": "resnet9"}}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_dict_is_the_recipe_that_a_file_with_its_content_is(path: Path) -> None:
    of_file = load_recipe(path, ["seed=3"])
    of_text = load_recipe(str(path), ["seed=3"])
    of_dict = load_recipe({"name": path.stem, **parse(path.read_text(), "").data}, ["seed=3"])
    assert of_text == of_file
    assert of_dict == of_file.model_copy(update={"base_dir": of_dict.base_dir})
    assert of_dict.seed == 3


@pytest.mark.parametrize(
    "name", ["unknown_keys", "out_of_range", "wrong_types", "wrong_choices", "distill_alone", "missing_version"]
)
def test_mistakes_have_the_messages_of_files_without_their_lines(name: str) -> None:
    path = MISTAKES / f"{name}.yaml"
    with pytest.raises(RecipeError) as of_file:
        load_recipe(path)
    told = problems(parse(path.read_text(), "").data)
    expected = [str(problem).partition(": ")[2] for problem in of_file.value.problems]
    assert sorted(told) == sorted(f"recipe: {text}" for text in expected)


def test_overrides_are_told_from_the_recipe() -> None:
    assert problems({**SMALL, "prune": {"rato": 1}}, "prune.steps=0") == [
        "recipe: prune.rato: no such key in the block `prune` (did you mean `ratio`?)",
        "--set: prune.steps: expected a whole number from 1 to 100, found `0`",
    ]
    assert load_recipe(SMALL, "seed=5").seed == 5


class Width(enum.IntEnum):
    SMALL = 8


class Name(enum.StrEnum):
    NET = "resnet9"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(8), 8),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(8), 8),
        (torch.tensor(8), 8),
        (Width.SMALL, 8),
        (Name.NET, "resnet9"),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (Path("a") / "b", "a/b"),
        (None, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stands_for_plain_data_is_taken_for_it(value: Any, plain: Any) -> None:
    recipe = load_recipe(with_teacher(args={"x": value}))
    assert recipe.teacher is not None
    found = recipe.teacher.args["x"]
    assert found == plain
    assert type(found) is type(plain)


def test_paths_may_be_paths() -> None:
    recipe = load_recipe({**SMALL, "data": {"source": "npz", "path": Path("data") / "x.npz"}})
    assert recipe.data.path == "data/x.npz"


def make_net() -> None: ...


NAME_IT = '(name it as text: "python:module:name", which is imported when the recipe runs)'


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros(2), "found a value of type `numpy.ndarray` (write a list: .tolist())"),
        (torch.zeros(2), "found a value of type `torch.Tensor` (write a list: .tolist())"),
        ({1, 2}, "found a value of type `set` (write a list: list(...))"),
        (range(3), "found a value of type `range` (write a list: list(...))"),
        (b"x", "found a value of type `bytes` (write text)"),
        (1j, "found a value of type `complex`"),
        (decimal.Decimal(1), "found a value of type `decimal.Decimal` (write a number: float(...))"),
        (make_net, f"found a value of type `function` {NAME_IT}"),
        (nn.ReLU, f"found a value of type `type` {NAME_IT}"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_other_values_are_refused_by_key_and_type(value: Any, told: str) -> None:
    expected = f"a recipe holds plain data only, {told}"
    assert problems(with_teacher(args={"x": [1, value]})) == [f"recipe: teacher.args.x[1]: {expected}"]
    assert problems(with_teacher(weights=value)) == [f"recipe: teacher.weights: {expected}"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "`nan` is not a finite number of usual size"),
        (np.float64("inf"), "`inf` is not a finite number of usual size"),
        (10**5000, "a whole number of 16,610 bits is not a finite number of usual size"),
        ("\x1b[31m", "the text holds control characters"),
    ],
    ids=["nan", "inf", "huge", "escape"],
)
def test_values_that_files_may_not_have_either(value: Any, told: str) -> None:
    assert problems(with_teacher(args={"x": value})) == [f"recipe: teacher.args.x: {told}"]


def test_keys_are_text() -> None:
    assert problems(with_teacher(args={3: 4, "a\0": 1})) == [
        "recipe: teacher.args: a key must be text, found `3` (put it in quotes)",
        r"recipe: teacher.args: the key 'a\x00' holds control characters",
    ]


def test_what_holds_itself_or_too_much_ends() -> None:
    endless: dict[str, Any] = dict(SMALL)
    endless["teacher"] = {"model": "resnet9", "args": endless}
    doubled: Any = [0]
    for _ in range(15):
        doubled = [doubled, doubled]
    for content in (endless, with_teacher(args={"x": doubled}), with_teacher(args={"x": [0] * 10_001})):
        assert problems(content) == ["recipe: too large for a recipe: at most 10,000 values, nested at most 20 deep"]


AND_NOT_THIS_ONE = "and this one has lines (hand the content over as a dict: yaml.safe_load(text))"


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (3, "expected the path of a recipe file or its content as a dict, found int"),
        (None, "expected the path of a recipe file or its content as a dict, found NoneType"),
        ([SMALL], "expected the path of a recipe file or its content as a dict, found list"),
        ("version: 1\nteacher: {model: resnet9}\n", f"a text is the path of a recipe file, {AND_NOT_THIS_ONE}"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_at_all(recipe: Any, told: str) -> None:
    assert problems(recipe) == [f"recipe: {told}"]


def test_a_run_of_before_is_a_recipe_as_a_dict_too() -> None:
    lock: Mapping[str, Any] = {"edgecompress": "0.1.0", "recipe": dict(SMALL), "model_sha256": "0"}
    recipe = load_recipe(lock)
    assert recipe.locked == {"edgecompress": "0.1.0", "model_sha256": "0"}
    assert problems({**lock, "nonsense": 1})[0].startswith("recipe: nonsense: no such key in a lock file")
