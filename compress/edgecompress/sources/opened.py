"""Which files a user's code opens while it is imported and called: what it gives depends on them too.

They are only known once the code has run. So they are remembered, for whoever asks before it runs again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecompress.store.code import cache_folder
from edgecompress.store.files import sha256_file, write_json
from edgecompress.store.reading import read_document

#: Files of Python itself, and of the machine: what they hold is not the user's.
_CODE = frozenset({".py", ".pyc", ".pyi", ".so", ".dll", ".pyd", ".pth"})
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/")
#: More files than these are a data set, not a configuration.
MOST_FILES = 500
#: Of a hash: it is shown where a file has changed.
DIGITS = 16

_seen: set[str] | None = None
_installed = False


@contextlib.contextmanager
def noting_files(key: str) -> Iterator[None]:
    """Remembers under a key which files are opened for reading while inside.

    Args:
        key: A hash of the code and of what it is called with.
    """
    global _seen, _installed  # noqa: PLW0603 - an audit hook cannot be taken back, so there is one
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True
    before, _seen = _seen, set()
    try:
        yield
    finally:
        found, _seen = _seen or set(), before
        files = sorted(path for path in found if _is_users(path))[:MOST_FILES]
        # A module that was imported before opens nothing again.
        _remember(key, sorted({*known_files(key), *files}))


def known_files(key: str) -> list[str]:
    """Returns the files that code of that key opened, absolute paths; none where it has not run yet."""
    try:
        found = read_document(_place(key), "a list of files")
    except (OSError, ValueError):
        return []
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


def files_sha256(key: str, folder: Path) -> dict[str, str]:
    """Returns path -> hash of the files that code of that key opened; "" for what is not there any more.

    Args:
        key: As `noting_files` took it.
        folder: The recipe's, from which the paths of files in it are told.
    """
    found, root = {}, folder.resolve()
    for path in known_files(key):
        name = Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path
        try:
            found[name] = sha256_file(Path(path))[:DIGITS]
        except OSError:
            found[name] = ""
    return found


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None or event != "open":
        return
    path, mode, flags = (*arguments, None, None)[:3]
    reads = "r" in mode if isinstance(mode, str) else isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY
    if reads and isinstance(path, str | bytes | os.PathLike):
        _seen.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - no link is followed, nothing is asked of the disk


def _is_users(path: str) -> bool:
    libraries = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), str(cache_folder())}
    if Path(path).suffix in _CODE or path.startswith(_SYSTEM) or not os.path.isfile(path):  # noqa: PTH113
        return False
    return not any(Path(path).is_relative_to(library) for library in libraries)


def _remember(key: str, files: list[str]) -> None:
    if files == known_files(key):
        return
    with contextlib.suppress(OSError):  # where it cannot be kept, the next run finds out again
        _place(key).parent.mkdir(parents=True, exist_ok=True)
        write_json(_place(key), files)


def _place(key: str) -> Path:
    return cache_folder() / f"opened-{key[:20]}.json"
