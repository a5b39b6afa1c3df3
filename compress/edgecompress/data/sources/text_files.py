"""Source `text-files`: files of text for a language model; whole files are held out for the test."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from edgecompress.data.base import Split
from edgecompress.data.raw import RawData, data_path, hash_files, listing
from edgecompress.data.reading.text_reading import read_text
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.wording import counted, verb

EXPECTED = "a text file, a folder of .txt, .text or .md files, or a pattern such as texts/**/*.py, all in UTF-8"
#: What counts as text in a folder; a pattern takes whatever it matches.
SUFFIXES = (".txt", ".text", ".md")
PATTERN = "*?["


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns one sample per file: (N,) objects of str. Labels are zeros."""
    notes: list[str] = []
    splits = {part: _split(files, notes) for part, files in _files(recipe).items()}
    return RawData(splits["train"], splits.get("test"), (), notes=tuple(notes), kind="text")


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the files and of their places below `path` and `test_path`."""
    return hash_files(
        (f"{part}/{name}", path) for part, files in _files(recipe).items() for name, path in files.items()
    )


def _files(recipe: Recipe) -> dict[str, dict[str, Path]]:
    """Returns the files of each part by their place below the path, in order of these."""
    found = {"train": _matching(data_path(recipe), recipe, "path")}
    if recipe.data.test_path is not None:
        found["test"] = _matching(data_path(recipe, "test_path"), recipe, "test_path")
        both = {path.resolve() for path in found["train"].values()} & {
            path.resolve() for path in found["test"].values()
        }
        if both:
            raise DataError(
                f"{counted(len(both), 'file')} in both data.path and data.test_path: {listing(sorted(both))}."
            )
    return found


def _matching(path: Path | None, recipe: Recipe, key: str) -> dict[str, Path]:
    if path is None:
        raise DataError(f"data.{key} is missing: source `{recipe.data.source}` reads {EXPECTED}")
    if path.is_file():
        return {path.name: path}
    if path.is_dir():
        root, matches = path, [one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES]
        matches = [one for one in matches if not any(part.startswith(".") for part in one.relative_to(root).parts)]
    elif any(mark in str(path) for mark in PATTERN):
        root = Path(*itertools.takewhile(lambda part: not any(mark in part for mark in PATTERN), path.parts))
        matches = list(root.glob(str(path.relative_to(root))))
    else:
        raise DataError(f"data.{key} {path}: No such file or directory. Expected {EXPECTED}.")
    files = {one.relative_to(root).as_posix(): one for one in matches if one.is_file()}
    if not files:
        raise DataError(f"data.{key} {path}: no text files there. Expected {EXPECTED}.")
    return dict(sorted(files.items()))


def _split(files: dict[str, Path], notes: list[str]) -> Split:
    texts = [(name, read_text(path)) for name, path in files.items()]
    empty = [name for name, text in texts if not text]
    if empty:
        count = len(empty)
        notes.append(f"{counted(count, 'text file')} {verb(count, 'is', 'are')} empty and left out: {listing(empty)}.")
    held = [text for _, text in texts if text]
    if not held:
        raise DataError(f"{next(iter(files.values())).parent}: all text files are empty.")
    inputs = np.empty(len(held), object)
    inputs[:] = held
    return Split(inputs, np.zeros(len(held), np.int64))
