"""The one reader of files that may be anything: regular files only, no more than they may hold, and never waiting.

What lies where a file is expected comes from strangers: a pipe that nobody writes to, a device without an end, a file
of holes that says it has terabytes, one that grows while it is read. Whatever is wrong is an `OSError` with a reason
in plain words, for the caller to say what it was reading.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

from edgecompress.machine import memory_bytes

MIB = 1024**2
#: What a document may have (manifests, reports, configurations): those of the largest networks have some MiB.
DOCUMENT_BYTES = 64 * MIB
#: Below this a file of holes does no harm.
HARMLESS_BYTES = 256 * MIB
#: Of a larger file at least this share is written; the rest may be holes, which read as zeros.
LEAST_WRITTEN = 1 / 200
#: Pieces of a file that are looked at to find out.
MOST_PIECES = 10_000
#: Files that the kernel makes up as they are read, without a size of which one could tell where they end.
MADE_UP = ("/proc/", "/sys/")
KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file of any size for reading.

    Raises:
        OSError: It cannot be opened, is a folder, a pipe, a device or a socket, or holds next to nothing but holes.
    """
    _check(path, _stat(path).st_mode)  # first: merely opening a device may do something
    # Without waiting, because what lies there may have become a pipe by now.
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb")
    try:
        _check_opened(path, stream.fileno())
    except BaseException:
        stream.close()
        raise
    return stream


def open_bounded(path: Path, limit: int, what: str) -> io.BufferedReader:
    """Opens a regular file for reading that is not larger than it may be.

    Args:
        path: The file.
        limit: Bytes that it may have.
        what: What has that many at most, for the message: `a report`.

    Raises:
        OSError: As by `open_regular`, or it is larger.
    """
    stream = open_regular(path)
    size = os.fstat(stream.fileno()).st_size
    if size > limit:
        stream.close()
        raise _too_large(path, f"{size / MIB:,.1f} MiB", limit, what)
    return stream


def read_bounded(path: Path, limit: int, what: str) -> bytes:
    """Returns the content of a regular file, of which never more than the limit is read, also where it grows.

    Raises:
        OSError: As by `open_bounded`.
    """
    with open_bounded(path, limit, what) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(size + 1)
        while len(content) > size:  # it has grown
            if len(content) > limit:
                raise _too_large(path, "it grew beyond that while it was read", limit, what)
            size = len(content)
            content += stream.read(min(MIB, limit + 1 - size))
        return content


def read_into_memory(path: Path) -> bytes:
    """Returns the content of a file that may be as large as this machine's memory: data, pictures, weights.

    Raises:
        OSError: As by `open_bounded`.
    """
    return read_bounded(path, memory_bytes(), "what is read into the memory here")


def read_document(path: Path, what: str, limit: int = DOCUMENT_BYTES) -> Any:
    """Returns what a file of JSON holds.

    Raises:
        OSError: As by `open_bounded`.
        ValueError: It is no JSON, or nested too deeply.
    """
    try:
        return json.loads(read_bounded(path, limit, what))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_regular(path: Path) -> bool:
    """Returns whether something is a regular file or a link to one; False where it cannot be looked at."""
    try:
        return stat.S_ISREG(_stat(path).st_mode)
    except OSError:
        return False


def kind_of(mode: int) -> str:
    """Returns what a file is that is neither a regular file nor a folder: `a pipe`; "" for those two."""
    found = next((name for test, name in KINDS if test(mode)), "")
    return found or ("" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "something else")


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except ValueError as error:  # a zero byte in its name
        raise OSError(errno.EINVAL, str(error), str(path)) from error


def _check(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind := kind_of(mode):
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))


def _check_opened(path: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    _check(path, status.st_mode)
    if _is_made_up(descriptor):
        raise OSError(errno.EINVAL, "not a file on a disk", str(path))
    if status.st_size > HARMLESS_BYTES and _is_hollow(descriptor, status.st_size):
        reason = f"{status.st_size / MIB:,.0f} MiB, of which next to nothing is written (a file of holes)"
        raise OSError(errno.EFBIG, reason, str(path))


def _is_made_up(descriptor: int) -> bool:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(MADE_UP)
    except OSError:  # a system without such files
        return False


def _is_hollow(descriptor: int, size: int) -> bool:
    """Returns whether next to nothing of a file was ever written; where that is not known, it counts as written."""
    written = at = 0
    try:
        for _ in range(MOST_PIECES):
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
            written += at - start
            if written >= size * LEAST_WRITTEN:
                return False
    except OSError as error:
        return error.errno == errno.ENXIO  # no more data behind here
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return False


def _too_large(path: Path, found: str, limit: int, what: str) -> OSError:
    most = f"{limit / MIB:,.1f} MiB" if limit >= MIB else f"{limit:,} bytes"
    return OSError(errno.EFBIG, f"too large: {found}; {what} has {most} at most", str(path))
