"""Source `npz`: one NumPy archive with x_train, y_train and, if wanted, x_test, y_test and more, by the task."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgecompress.data.limits import LONGEST_NAME
from edgecompress.data.raw import RawData, hash_files, required_path
from edgecompress.data.reading.named_arrays import expected, keys_of, raw_data
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.sources.archives import check_unpacked, is_gzip, read_unpacked
from edgecompress.store.reading import open_regular

#: What NumPy and zipfile raise over files of other kinds and damaged ones (RuntimeError: encrypted, unknown method;
#: OverflowError: a shape beyond 64 bits; TokenError, SyntaxError, TypeError: a header that is no Python text).
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    OverflowError,
    TypeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
#: How a file of a single array begins, and where in it the values begin at the latest, as NumPy has it.
ARRAY, HEADER_BYTES = b"\x93NUMPY", 16 * 1024
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MOST_MEMBERS = 10_000


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
        with open_regular(path) as handle:
            stream: BinaryIO = io.BytesIO(read_unpacked(path, DataError)) if is_gzip(path) else handle
            start = stream.read(len(ARRAY))
            stream.seek(0)
            if start == ARRAY:  # said before it is read
                example = "np.savez(path, x_train=..., y_train=...)"
                raise DataError(f"{path} holds a single array. Expected {what}: {example}")
            with zipfile.ZipFile(stream) as archive:
                members = _members(archive, keys, path)
                check_unpacked(path, (info for info in members.values() if info is not None), "data.path", DataError)
                return {name: _member(archive, info, path) for name, info in members.items()}
    except UNREADABLE as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why}). Expected {what}.") from error


def _members(archive: zipfile.ZipFile, keys: tuple[str, ...], path: Path) -> dict[str, zipfile.ZipInfo | None]:
    """Returns the arrays that an archive holds by name, None for those that are not used."""
    found: dict[str, zipfile.ZipInfo | None] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        used = info if name in keys else None
        if used is not None and name in found:
            raise DataError(f"{path}: {name} is in it twice: which one counts? Save it again with one array of a name.")
        if used is not None and info.compress_type not in PACKED:
            raise DataError(f"{path}: {name} is packed in a way that NumPy does not write. Save it by np.savez.")
        found[name[:LONGEST_NAME]] = used
        if len(found) > MOST_MEMBERS:
            raise DataError(f"{path}: more than {MOST_MEMBERS:,} arrays. Expected {', '.join(keys)}.")
    return found


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, path: Path) -> Any:
    """Returns an array. What its header says of its shape is believed where as many bytes are there."""
    if info is None:
        return None
    name = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as stream:
            header = io.BytesIO(stream.read(HEADER_BYTES))
            version = np.lib.format.read_magic(header)
            first = version == (1, 0)
            read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, _, kind = read_header(header)
        needed = math.prod(shape) * max(kind.itemsize, 1)
        if needed > info.file_size and not kind.hasobject:
            raise DataError(
                f"{path}: {name} cannot be read: its header says {' x '.join(map(str, shape))} of {kind}, "
                f"{needed:,} bytes, but there are {info.file_size:,}. Is the file whole?"
            )
        with archive.open(info) as stream:
            # Pickles could run code, so arrays of Python objects are refused.
            return np.lib.format.read_array(stream, allow_pickle=False)
    except UNREADABLE as error:
        objects = " Python objects are not loaded: save names as np.array([...], dtype=str)."
        hint = objects if "allow_pickle" in str(error) else " Is the file whole?"
        raise DataError(f"{path}: {name} cannot be read ({error}).{hint}") from error
