"""What a source hands over, and how sources name, find and hash their files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.store.files import sha256_file, sha256_json

#: What the inputs of a source are. Text is (N,) objects of type str; series are (N, steps, features) or, where their
#: lengths differ, (N,) objects of (steps, features).
RawKind = Literal["pictures", "series", "features", "text"]
#: Names listed in a message before it says how many more there are.
LISTED = 5


@dataclass(frozen=True)
class RawData:
    """The arrays of a source, before they are resized, thinned out and split.

    Attributes:
        train: What may be learnt from; empty where the source has a test split only.
        test: The source's own test split, None where it has none.
        class_names: One per class.
        calibration: Unlabelled inputs of the same kind, where the source has them.
        value_scale: Brings values to 0..1; None: as their type suggests.
        notes: Plain sentences for the report.
        kind: What the inputs are; `text` becomes tokens.
        front_end: Of audio: how frames were made of a waveform.
        target_names: Of a regression: the numbers to predict.
        validation: The source's own validation split, None where it has none.
        subtracted: From every channel, or from all, of what the source has; see `Offsets`. Empty: nothing.
        levels: Of pictures of 16 bits: the values that became 0 and 255. Empty: there are none.
    """

    train: Split
    test: Split | None
    class_names: tuple[str, ...]
    calibration: NDArray[Any] | None = None
    value_scale: float | None = None
    notes: tuple[str, ...] = ()
    kind: RawKind = "pictures"
    front_end: Mapping[str, Any] | None = None
    target_names: tuple[str, ...] = ()
    validation: Split | None = None
    subtracted: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """One entry of the table of sources.

    Attributes:
        load: Returns the arrays.
        fingerprint: Returns a hash of the same content; it imports neither torch nor scikit-learn.
    """

    load: Callable[[Recipe, bool], RawData]
    fingerprint: Callable[[Recipe, bool], str]


def data_path(recipe: Recipe, key: Literal["path", "test_path"] = "path") -> Path | None:
    """Returns `data.path` (or `data.test_path`) from the recipe's folder, None where the recipe has none."""
    written: str | None = getattr(recipe.data, key)
    if written is None:
        return None
    return Path(os.path.normpath(Path(recipe.base_dir, Path(written).expanduser())))


def required_path(recipe: Recipe, expected: str, key: Literal["path", "test_path"] = "path") -> Path:
    """Returns `data.path` (or `data.test_path`); `expected` says what should lie there.

    Raises:
        DataError: The recipe names no path, or nothing is there.
    """
    path = data_path(recipe, key)
    if path is None:
        raise DataError(f"data.{key} is missing: source `{recipe.data.source}` reads {expected}")
    try:
        path.stat()
    except OSError as error:
        raise DataError(f"data.{key} {path}: {error.strerror or error}. Expected {expected}.") from error
    return path


def hash_files(files: Iterable[tuple[str, Path]], *, lenient: bool = False) -> str:
    """Returns one SHA-256 over (relative name, content) of files; where they lie does not count.

    Args:
        files: Their names and places.
        lenient: Whether one that cannot be read counts by its name alone.

    Raises:
        DataError: One cannot be read.
    """
    listed = []
    for name, path in sorted(files):
        try:
            listed.append([name, sha256_file(path)])
        except OSError as error:
            if not lenient:
                raise DataError(f"{path}: {error.strerror or error}") from error
            listed.append([name, "cannot be read"])
    return sha256_json(listed)


def empty_split(shape: Sequence[int], dtype: np.dtype[Any]) -> Split:
    """Returns a split without samples; `shape` is that of one sample."""
    return Split(np.zeros((0, *shape), dtype), np.zeros(0, np.int64))


def listing(names: Iterable[object]) -> str:
    """Returns the first few names and how many more there are."""
    every = [str(name) for name in names]
    more = len(every) - LISTED
    return ", ".join(every[:LISTED]) + (f" and {more} more" if more > 0 else "")
