"""Locks on files: one run at a time in a folder, one process at a time at a step. A holder's death frees them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edgecompress.errors import ResourceError
from edgecompress.store.own_files import NOT_OURS, open_own
from edgecompress.store.sharing import make_folder, share

#: Of a process's number.
MOST_DIGITS = 20


class BusyError(ResourceError):
    """Another process holds the lock."""


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds a lock file, which exists as long as that.

    Args:
        path: The file; its folder is made where it is missing.
        waiting: Told, before waiting, who holds the lock (`process 123`); None: do not wait.

    Raises:
        BusyError: Another process holds it, and `waiting` is None; the message says which.
        ResourceError: The file cannot be made, or what lies there is no lock.
    """
    try:
        descriptor = _hold(path, waiting)
    except OSError as error:
        way_out = "" if NOT_OURS in str(error) else " Choose a writable folder on a local disk."
        raise ResourceError(f"cannot lock {path}: {error.strerror or error}.{way_out}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _hold(path: Path, waiting: Callable[[str], None] | None) -> int:
    make_folder(path.parent)
    told = False
    while True:
        descriptor = open_own(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(descriptor)
                if waiting is None:
                    raise BusyError(f"{holder} is at work here") from None
                if not told:
                    waiting(holder)
                    told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_in_place(descriptor, path):
                _check(descriptor, path)
                share(path)  # a killed run leaves it, and another user's may have to take it up
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it while this process waited


def _check(descriptor: int, path: Path) -> None:
    """Lets files pass that hold what a lock does: the number of a process, or nothing."""
    content = os.pread(descriptor, MOST_DIGITS + 1, 0)
    if content and not (content.isdigit() and len(content) <= MOST_DIGITS):
        raise OSError(errno.EINVAL, f"it is no lock, {NOT_OURS}", str(path))


def _is_in_place(descriptor: int, path: Path) -> bool:
    try:
        here, there = os.fstat(descriptor), path.lstat()
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _holder(descriptor: int) -> str:
    number = os.pread(descriptor, MOST_DIGITS, 0).decode("ascii", "replace")
    return f"process {number}" if number.isdigit() else "another process"


def is_alive(process: str) -> bool:
    """Returns whether there is a process of that number, whosever it is."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
