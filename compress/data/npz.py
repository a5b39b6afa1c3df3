"""Source `npz`: one NumPy archive with x_train, y_train and, if wanted, x_test, y_test, x_calibration, class_names."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.arrays import EXPECTED, KEYS, raw_data
from compress.data.raw import RawData, hash_files, required_path
from compress.errors import DataError
from compress.recipe import Recipe

WHAT = f"an .npz file with {EXPECTED}"

#: What NumPy and zipfile raise over files of other kinds and damaged ones (RuntimeError: encrypted, unknown method).
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the archive's arrays, checked."""
    path = _path(recipe)
    return raw_data(_read(path), str(path))


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the archive; its name does not count."""
    return hash_files([("npz", _path(recipe))])


def _path(recipe: Recipe) -> Path:
    path = required_path(recipe, WHAT)
    if path.is_dir():
        raise DataError(f"data.path {path} is a folder. Expected {WHAT}. Folders of pictures: source: image-folder.")
    return path


def _read(path: Path) -> dict[str, Any]:
    """Returns the arrays by name; the ones that are not used are not read."""
    try:
        # Opened here, because NumPy leaves the file open where it turns out to be no archive.
        with path.open("rb") as handle:
            # Pickles could run code, so arrays of Python objects are refused.
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                example = "np.savez(path, x_train=..., y_train=...)"
                raise DataError(f"{path} holds a single array. Expected {WHAT}: {example}")
            return {name: _member(archive, name, path) if name in KEYS else None for name in archive.files}
    except UNREADABLE as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why}). Expected {WHAT}.") from error


def _member(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Any:
    try:
        return archive[name]
    except UNREADABLE as error:
        objects = " Python objects are not loaded: save names as np.array([...], dtype=str)."
        hint = objects if "allow_pickle" in str(error) else " Is the file whole?"
        raise DataError(f"{path}: {name} cannot be read ({error}).{hint}") from error
