"""Source `npz`: one NumPy archive with x_train, y_train and, if wanted, x_test, y_test and more, by the task."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.data.raw import RawData, hash_files, required_path
from edgecompress.data.reading.named_arrays import expected, keys_of, raw_data
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.sources.archives import check_unpacked, is_gzip, read_unpacked

#: What NumPy and zipfile raise over files of other kinds and damaged ones (RuntimeError: encrypted, unknown method;
#: OverflowError: a shape beyond 64 bits; TokenError: a header that is no Python text).
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    OverflowError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the archive's arrays, checked."""
    path = _path(recipe)
    return raw_data(_read(path, recipe), str(path), recipe)


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the archive; its name does not count."""
    return hash_files([("npz", _path(recipe))])


def _what(recipe: Recipe) -> str:
    return f"an .npz file with {expected(recipe.task)}"


def _path(recipe: Recipe) -> Path:
    path = required_path(recipe, _what(recipe))
    if path.is_dir():
        raise DataError(
            f"data.path {path} is a folder. Expected {_what(recipe)}. Folders of pictures: source: image-folder."
        )
    return path


def _read(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Returns the arrays by name; the ones that are not used are not read."""
    keys, what = keys_of(recipe), _what(recipe)
    try:
        # Opened here, because NumPy leaves the file open where it turns out to be no archive.
        with path.open("rb") as handle:
            # Pickles could run code, so arrays of Python objects are refused.
            archive = np.load(
                io.BytesIO(read_unpacked(path, DataError)) if is_gzip(path) else handle, allow_pickle=False
            )
            if not isinstance(archive, np.lib.npyio.NpzFile):
                example = "np.savez(path, x_train=..., y_train=...)"
                raise DataError(f"{path} holds a single array. Expected {what}: {example}")
            used = (
                info
                for info in (archive.zip.infolist() if archive.zip is not None else ())
                if info.filename.removesuffix(".npy") in keys
            )
            check_unpacked(path, used, "data.path", DataError)
            return {name: _member(archive, name, path) if name in keys else None for name in archive.files}
    except UNREADABLE as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why}). Expected {what}.") from error


def _member(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Any:
    try:
        return archive[name]
    except UNREADABLE as error:
        objects = " Python objects are not loaded: save names as np.array([...], dtype=str)."
        hint = objects if "allow_pickle" in str(error) else " Is the file whole?"
        raise DataError(f"{path}: {name} cannot be read ({error}).{hint}") from error
