"""Files that are written in place (logs, locks): never through a link, and never what is no file of ours alone.

What lies where they belong may have come with a cloned repository: a link there would turn the log of a run into a
way to write over any file of its user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from edgecompress.store.files import write_bytes
from edgecompress.store.reading import kind_of, read_into_memory

#: What is said of all that lies in the place of a file of ours and is none.
NOT_OURS = "not a file that edgecompress has made. Remove it"


def open_own(path: Path) -> int:
    """Returns a descriptor for reading and writing of a file that is ours alone, made where there is none.

    Nothing in it is changed.

    Raises:
        OSError: There is a link, a pipe, a device, a folder, or a file that has other names too.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        with contextlib.suppress(FileNotFoundError):
            _check(path, path.lstat())  # first: merely opening a device may do something
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:  # it became a link meanwhile
            raise _not_ours(path, "a link") from error
        raise
    try:
        _check(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def own_log(path: Path, *, keep: bool) -> int:
    """Returns a descriptor for adding to a log of ours.

    Where it has other names too, as in a copy made of hard links, those keep what they have.

    Args:
        path: The log.
        keep: Whether what is in it stays.

    Raises:
        OSError: As by `open_own`.
        ResourceError: The file system refused.
    """
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            write_bytes(path, read_into_memory(path) if keep else b"")
    descriptor = open_own(path)
    if keep:
        os.lseek(descriptor, 0, os.SEEK_END)
    else:
        os.ftruncate(descriptor, 0)
    return descriptor


def _check(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _not_ours(path, "a link")
    if stat.S_ISDIR(status.st_mode):
        raise _not_ours(path, "a folder")
    if kind := kind_of(status.st_mode):
        raise _not_ours(path, kind)
    if status.st_nlink > 1:
        raise _not_ours(path, "a file with other names too (hard links)")


def _not_ours(path: Path, what: str) -> OSError:
    return OSError(errno.EINVAL, f"it is {what}, {NOT_OURS}", str(path))
