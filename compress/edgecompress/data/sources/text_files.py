"""Source `text-files`: files of text for a language model; whole files are held out for the test."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from edgecompress.data.base import Split
from edgecompress.data.raw import RawData, data_path, hash_files, listing
from edgecompress.data.reading.folders import Walk, is_hidden, walk
from edgecompress.data.reading.text_reading import read_text
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.wording import counted, verb

EXPECTED = (
    "a text file, a folder of .txt, .text or .md files, or a pattern such as texts/**/*.py, all in UTF-8, "
    "gzipped or not"
)
#: What counts as text in a folder; a pattern takes whatever it matches.
SUFFIXES = (".txt", ".text", ".md", ".txt.gz", ".text.gz", ".md.gz")
PATTERN = "*?["


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns one sample per file: (N,) objects of str. Labels are zeros."""
    notes: list[str] = []
    splits = {part: _split(files, notes) for part, files in _files(recipe, notes).items()}
    return RawData(splits["train"], splits.get("test"), (), notes=tuple(notes), kind="text")


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the files and of their places below `path` and `test_path`."""
    return hash_files(
        (f"{part}/{name}", path) for part, files in _files(recipe, []).items() for name, path in files.items()
    )


def _files(recipe: Recipe, notes: list[str]) -> dict[str, dict[str, Path]]:
    """Returns the files of each part by their place below the path, in order of these; what is left out is noted."""
    found = {"train": _matching(data_path(recipe), recipe, "path", notes)}
    if recipe.data.test_path is not None:
        found["test"] = _matching(data_path(recipe, "test_path"), recipe, "test_path", notes)
        both = {path.resolve() for path in found["train"].values()} & {
            path.resolve() for path in found["test"].values()
        }
        if both:
            raise DataError(
                f"{counted(len(both), 'file')} in both data.path and data.test_path: {listing(sorted(both))}."
            )
    return found


def _matching(path: Path | None, recipe: Recipe, key: str, notes: list[str]) -> dict[str, Path]:
    if path is None:
        raise DataError(f"data.{key} is missing: source `{recipe.data.source}` reads {EXPECTED}")
    if path.is_file():
        return {path.name: path}
    try:
        if path.is_dir():
            root, found = path, walk(path, SUFFIXES)
        elif any(mark in str(path) for mark in PATTERN):
            root, found = _by_pattern(path)
        else:
            raise DataError(f"data.{key} {path}: No such file or directory. Expected {EXPECTED}.")
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror or error}") from error
    if not found.files:
        there = f" It holds {listing(found.endings())}." if found.others else ""
        raise DataError(f"data.{key} {path}: no text files there.{there} Expected {EXPECTED}.")
    notes += found.notes(root, "text file")
    if found.nowhere:
        lead = verb(len(found.nowhere), "leads", "lead")
        notes.append(f"{root}: {counted(len(found.nowhere), 'link')} {lead} nowhere: {listing(found.nowhere)}.")
    return dict(sorted((one.relative_to(root).as_posix(), one) for one in found.files))


def _by_pattern(pattern: Path) -> tuple[Path, Walk]:
    """Returns the folder that a pattern begins in, and what it matches but for hidden files it does not name."""
    root = Path(*itertools.takewhile(lambda part: not any(mark in part for mark in PATTERN), pattern.parts))
    below = pattern.relative_to(root)
    named = any(is_hidden(part) for part in below.parts)
    found = Walk()
    for one in root.glob(str(below)):
        if not one.is_file():
            continue
        hidden = [part for part in one.relative_to(root).parts if is_hidden(part)]
        if named or not hidden:
            found.files.append(one)
        elif hidden[0] == one.name:
            found.hidden += 1
        else:
            found.folders[hidden[0]] += 1
    return root, found


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
