"""Files that are whole or absent, and hashes of files and documents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from edgecompress.errors import ResourceError
from edgecompress.store.reading import kind_of, open_regular
from edgecompress.store.sharing import make_folder, share

#: How files end that are not whole yet.
PARTIAL = ".partial"
#: Keys of a document: the hash of all else in it, and where it is sealed with a key what that makes of it.
OWN_HASH, KEYED = "sha256", "hmac_sha256"
#: Digits of a SHA-256 in hex, and the longest name of a file.
HEX_DIGITS, LONGEST_NAME = 64, 255


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hex.

    Raises:
        OSError: It cannot be read, is no file (pipes and devices may never end), or is made of holes.
    """
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def require_file(path: Path) -> None:
    """Lets files and folders pass, links to them too.

    Raises:
        OSError: It is a pipe, a device or a socket, or cannot be looked at.
    """
    if kind := kind_of(path.stat().st_mode):
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))


def sha256_json(value: Any) -> str:
    """Returns the SHA-256 of a value's canonical JSON (sorted keys, no spaces), in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: Any) -> bytes:
    """Returns a value as canonical JSON: sorted keys, no spaces.

    Raises:
        ValueError: It holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def is_sha256(value: Any) -> bool:
    """Returns whether a value is a SHA-256 in hex, as it is written here."""
    return isinstance(value, str) and len(value) == HEX_DIGITS and set(value) <= set("0123456789abcdef")


def is_plain_name(name: Any) -> bool:
    """Returns whether a name leads to something in a folder and nowhere else: no path, nothing that cannot be shown."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and name.isprintable()
        and not {"/", "\\"} & set(name)
        and len(name.encode()) <= LONGEST_NAME
    )


def are_hashes(value: Any) -> bool:
    """Returns whether a value names files of one folder with their SHA-256."""
    return isinstance(value, dict) and all(is_plain_name(name) and is_sha256(value[name]) for name in value)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that it is either the old one or the whole new one (temporary file, fsync, rename).

    Raises:
        ResourceError: The file system refused.
    """
    temporary = None
    try:
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(PARTIAL, f".{path.name}.", path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        share(temporary)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically; the same value gives the same bytes.

    What is infinite or undefined becomes null, for JSON has no other word for it.
    """
    value, _ = finite(value)
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


def finite(value: Any) -> tuple[Any, list[str]]:
    """Returns a JSON value with None for every number that is infinite or undefined, and the keys of these."""
    missing: list[str] = []

    def clean(one: Any, key: str) -> Any:
        if isinstance(one, float) and not math.isfinite(one):
            missing.append(key)
            return None
        if isinstance(one, dict):
            return {name: clean(part, f"{key}.{name}" if key else str(name)) for name, part in one.items()}
        if isinstance(one, list | tuple):
            return [clean(part, key) for part in one]
        return one

    return clean(value, ""), list(dict.fromkeys(missing))


def no_figure(keys: list[str]) -> str:
    """Returns what a warning says of figures that are no numbers."""
    told = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")  # noqa: PLR2004
    return (
        f"left out, because infinite or undefined: {told}. Somewhere the network divides by zero, or computes what "
        "float32 does not hold."
    )


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """Returns a document with the hash of all else in it, so that damage to it shows."""
    # As it is read back: keys that are numbers, and tuples, become what JSON knows.
    rest = json.loads(json.dumps(rest_of(document)))
    return {**rest, OWN_HASH: sha256_json(rest)}


def rest_of(document: dict[str, Any]) -> dict[str, Any]:
    """Returns what of a document its seals are about."""
    return {key: value for key, value in document.items() if key not in (OWN_HASH, KEYED)}


def is_whole(document: Any) -> bool:
    """Says whether a document is as it was sealed; one without a hash of its own was never."""
    try:
        return isinstance(document, dict) and document.get(OWN_HASH) == sha256_json(rest_of(document))
    except (ValueError, RecursionError):  # NaN, which is never written
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
