"""Files that are whole or absent, and hashes of files and documents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from edgecompress.errors import ResourceError

#: How files end that are not whole yet.
PARTIAL = ".partial"
#: Key of a document: the hash of all else in it.
OWN_HASH = "sha256"


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hex.

    Raises:
        OSError: It cannot be read, or is no file: a pipe may never end, nor does what a device gives.
    """
    require_file(path)
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def require_file(path: Path) -> None:
    """Lets files and folders pass, links to them too.

    Raises:
        OSError: It is a pipe, a device or a socket, or cannot be looked at.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def sha256_json(value: Any) -> str:
    """Returns the SHA-256 of a value's canonical JSON (sorted keys, no spaces), in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that it is either the old one or the whole new one (temporary file, fsync, rename).

    Raises:
        ResourceError: The file system refused.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(PARTIAL, f".{path.name}.", path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from error


def remove_partial(folder: Path) -> None:
    """Removes what killed processes had begun to write in a folder; nobody else may be writing there."""
    for path in folder.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically; the same value gives the same bytes."""
    write_bytes(path, f"{json_text(value)}\n".encode())


def json_text(value: Any, *, sort_keys: bool = True) -> str:
    """Returns a value as indented JSON.

    Raises:
        ResourceError: It holds NaN or infinity, which JSON does not have: a model gave them, or a file held them.
    """
    try:
        return json.dumps(value, indent=2, sort_keys=sort_keys, allow_nan=False)
    except ValueError as error:
        if place := _not_finite(value):
            raise ResourceError(
                f"{place} is no finite number, so there is no result to write. Look at the outputs of the model."
            ) from error
        raise


def _not_finite(value: Any, place: str = "") -> str:
    """Returns the dotted place of the first number that is not finite, "" where all are."""
    if isinstance(value, float):
        return (place or "the result") if not math.isfinite(value) else ""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    found = (_not_finite(one, f"{place}.{key}" if place else str(key)) for key, one in inner)
    return next(filter(None, found), "")


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """Returns a document with the hash of all else in it, so that damage to it shows."""
    rest = {key: value for key, value in document.items() if key != OWN_HASH}
    # As it is read back: keys that are numbers, and tuples, become what JSON knows.
    return {**rest, OWN_HASH: sha256_json(json.loads(json.dumps(rest)))}


def is_whole(document: dict[str, Any]) -> bool:
    """Says whether a document is as it was sealed; one of before documents were sealed can only be believed."""
    try:
        return OWN_HASH not in document or sealed(document) == document
    except (ValueError, RecursionError):  # NaN, which is never written
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
