"""What an archive from outside may hold: no more than its size makes likely and this machine's memory takes."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from edgecompress.errors import ResourceError
from edgecompress.machine import memory_bytes
from edgecompress.store.files import require_file

#: Below this nothing is a bomb.
HARMLESS_BYTES = 256 * 1024**2
#: What compresses further than this holds next to nothing: pictures and weights come to 10 at most.
LARGEST_RATIO = 200
MIB = 1024**2
#: How gzip begins; by this, not by its name, a file is known.
GZIP = b"\x1f\x8b"
#: How other archives begin, and what unpacks them.
OTHERS = {
    b"PK\x03\x04": "ZIP, unzip", b"\xfd7zXZ": "xz, xz -d", b"BZh91AY&": "bzip2, bunzip2",
    b"\x28\xb5\x2f\xfd": "zstd, zstd -d", b"7z\xbc\xaf\x27": "7z, 7z x", b"Rar!\x1a\x07": "RAR, unrar x",
}  # fmt: skip


def read_unpacked(path: Path, error: type[ResourceError] = ResourceError) -> bytes:
    """Returns a file's content, unpacked where it is gzipped.

    Raises:
        ResourceError: It cannot be read, is damaged, is a bomb, or is an archive of another kind.
    """
    try:
        require_file(path)
        with path.open("rb") as handle:
            start = handle.read(8)
            if not start.startswith(GZIP):
                other = next((one for mark, one in OTHERS.items() if start.startswith(mark)), None)
                if other is not None:
                    kind, command = other.split(", ")
                    way_out = f"Unpack it: {command} {path.name}"
                    raise error(f"{path}: a {kind} archive; only gzip is read packed. {way_out}")
                return start + handle.read()
    except OSError as problem:
        raise error(f"{path}: {problem.strerror or problem}") from problem
    return _gunzipped(path, error)


def is_gzip(path: Path) -> bool:
    """Returns whether a file is gzipped, by its first bytes.

    Raises:
        OSError: It cannot be read.
    """
    require_file(path)
    with path.open("rb") as handle:
        return handle.read(len(GZIP)) == GZIP


def _gunzipped(path: Path, error: type[ResourceError]) -> bytes:
    packed = path.stat().st_size
    most = min(max(HARMLESS_BYTES, LARGEST_RATIO * packed), memory_bytes())
    parts, size = [], 0
    try:
        with gzip.open(path) as stream:
            while size <= most and (part := stream.read(MIB)):
                parts.append(part)
                size += len(part)
    except (OSError, EOFError, zlib.error) as problem:
        raise error(f"{path}: gzip that is damaged or cut short ({problem}). Fetch it again.") from problem
    if size <= most:
        return b"".join(parts)
    if most < memory_bytes():
        raise error(
            f"{path}: a gzip bomb: {packed / MIB:,.1f} MiB that unpack to more than {most / MIB:,.0f} MiB. No real "
            "data pack like that."
        )
    raise error(f"{path}: it unpacks to more than the {most / MIB:,.0f} MiB of memory here. Make it smaller.")


def check_unpacked(
    path: Path, members: Iterable[zipfile.ZipInfo], what: str, error: type[ResourceError] = ResourceError
) -> None:
    """Lets an archive pass whose members can be unpacked into memory.

    Args:
        path: The archive.
        members: Those that will be read. Their sizes can be trusted: a reader stops where they end.
        what: What it is, for the message.
        error: What is raised.

    Raises:
        ResourceError: They would take more than this machine has, or are packed so tightly that they are a bomb.
    """
    unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
    if unpacked <= HARMLESS_BYTES:
        return
    if unpacked > LARGEST_RATIO * packed:
        raise error(
            f"{what} {path}: a zip bomb: {packed / MIB:,.1f} MiB that unpack to {unpacked / MIB:,.0f} MiB. "
            "No real data pack like that."
        )
    if unpacked > memory_bytes():
        raise error(
            f"{what} {path}: it unpacks to {unpacked / MIB:,.0f} MiB, more than the {memory_bytes() / MIB:,.0f} MiB of "
            "memory here. Make it smaller."
        )
