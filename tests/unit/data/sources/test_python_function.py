"""A user's own function: with leave, checked like any array, called once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.errors import DataError, ExitCode, UsageError

SOURCE = """
import numpy as np
from pathlib import Path

def make(count=30, factor=1, log="calls.log"):
    with Path(__file__).with_name(log).open("a") as handle:
        handle.write("called\\n")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 5, 5)).astype(np.uint8)
    return {"x_train": x * factor, "y_train": np.arange(count) % 3}

def make_tuple():
    whole = make()
    return whole["x_train"], whole["y_train"], whole["x_train"][:9], whole["y_train"][:9]

def reads_a_file():
    value = int(Path(__file__).with_name("value.txt").read_text())
    return {"x_train": np.full((30, 5, 5), value, np.uint8), "y_train": np.arange(30) % 3}

def text(): return "hello"
def pair(): return np.zeros(3), np.zeros(3)
def nothing(): return None
def ragged(): return {"x_train": [[1], [1, 2]], "y_train": [0, 1]}
def fails(): raise RuntimeError("the disk is on fire")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def test_the_arrays_of_a_function_are_used(folder: Path, recipe_of) -> None:
    data = load_dataset(recipe_of("python:mine:make", args={"count": 60}), trust=True)
    assert (len(data.train), len(data.validation), len(data.test)) == (43, 5, 12)
    assert data.input_shape == (1, 5, 5)
    data = load_dataset(recipe_of("python:mine:make_tuple"), trust=True)
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 9)


@pytest.mark.parametrize("reader", [load_dataset, fingerprint])
def test_no_code_runs_without_trust(folder: Path, recipe_of, reader) -> None:
    with pytest.raises(UsageError, match="--trust") as caught:
        reader(recipe_of("python:mine:make"), trust=False)
    assert caught.value.exit_code == ExitCode.RECIPE
    assert not (folder / "calls.log").exists()
    load_dataset(recipe_of("python:mine:make"), trust=True)
    with pytest.raises(UsageError):  # nor the second time
        reader(recipe_of("python:mine:make"), trust=False)


def test_a_function_is_called_once_for_all_readers(folder: Path, recipe_of) -> None:
    recipe = recipe_of("python:mine:make")
    fingerprint(recipe, trust=True)
    load_dataset(recipe, trust=True)
    load_dataset(recipe_of("python:mine:make", seed=1), trust=True)
    assert (folder / "calls.log").read_text() == "called\n"
    load_dataset(recipe_of("python:mine:make", args={"count": 31}), trust=True)
    assert (folder / "calls.log").read_text() == "called\n" * 2


def test_the_fingerprint_follows_code_arguments_and_arrays(folder: Path, recipe_of, monkeypatch) -> None:
    first = fingerprint(recipe_of("python:mine:make"), trust=True)
    assert fingerprint(recipe_of("python:mine:make", args={"factor": 3}), trust=True) != first
    (folder / "mine.py").write_text(SOURCE.replace("default_rng(0)", "default_rng(1)"))
    assert fingerprint(recipe_of("python:mine:make"), trust=True) != first
    from edgecompress.data.sources import python_function

    prints = set()
    for value in ("1", "2", "2"):
        (folder / "value.txt").write_text(value)
        monkeypatch.setattr(python_function, "_RETURNED", {})  # as in a new process
        prints.add(fingerprint(recipe_of("python:mine:reads_a_file"), trust=True))
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("text", r"python:mine:text returned a str. Expected a dict with x_train, .* or a tuple \(x_train, y_train"),
        ("pair", "returned a tuple of 2. Expected"),
        ("nothing", "returned a NoneType"),
        ("ragged", "python:mine:ragged: x_train is a list that is no array"),
        ("fails", "RuntimeError: the disk is on fire"),
        ("absent", "absent"),
    ],
)
def test_what_cannot_be_used_is_explained(folder: Path, recipe_of, function: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(recipe_of(f"python:mine:{function}"), trust=True)


def test_wrong_arguments_and_modules_are_explained(folder: Path, recipe_of) -> None:
    with pytest.raises(DataError, match="colour"):
        load_dataset(recipe_of("python:mine:make", args={"colour": 1}), trust=True)
    with pytest.raises(DataError, match="no_such_module"):
        load_dataset(recipe_of("python:no_such_module:make"), trust=True)


def test_empty_arrays_are_hashed_too(folder: Path, recipe_of) -> None:
    (folder / "only_test.py").write_text(
        "import numpy as np\ndef make(): return {'x_test': np.zeros((4, 5, 5)), 'y_test': np.arange(4) % 2}\n"
    )
    recipe = recipe_of("python:only_test:make")
    assert len(fingerprint(recipe, trust=True)) == 64
    assert len(load_dataset(recipe, trust=True).train) == 0
