"""What an archive from outside may hold: no more than its size makes likely and this machine's memory takes."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from edgecompress.errors import ResourceError
from edgecompress.machine import memory_bytes
from edgecompress.store.reading import open_regular, read_bounded

#: Below this nothing is a bomb.
HARMLESS_BYTES = 64 * 1024**2
#: What compresses further than this holds next to nothing: text comes to 4, pictures and weights to less. What unpacks
#: to much is copied, split and made into numbers of 32 bits besides.
LARGEST_RATIO = 10
#: The share of the memory that a file's content may take.
SHARE = 0.5
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
        with open_regular(path) as handle:
            start = handle.read(8)
        if not start.startswith(GZIP):
            other = next((one for mark, one in OTHERS.items() if start.startswith(mark)), None)
            if other is not None:
                kind, command = other.split(", ")
                way_out = f"Unpack it: {command} {path.name}"
                raise error(f"{path}: a {kind} archive; only gzip is read packed. {way_out}")
            return read_bounded(path, int(SHARE * memory_bytes()), "what is read into the memory here")
    except OSError as problem:
        raise error(f"{path}: {problem.strerror or problem}") from problem
    return _gunzipped(path, error)


def is_gzip(path: Path) -> bool:
    """Returns whether a file is gzipped, by its first bytes.

    Raises:
        OSError: It cannot be read.
    """
    with open_regular(path) as handle:
        return handle.read(len(GZIP)) == GZIP


def most_unpacked(packed: int) -> int:
    """Returns how many bytes an archive of so many may unpack to."""
    return min(max(HARMLESS_BYTES, LARGEST_RATIO * packed), int(SHARE * memory_bytes()))


def _gunzipped(path: Path, error: type[ResourceError]) -> bytes:
    content = io.BytesIO()  # grows in place, where parts would have to be joined
    try:
        with open_regular(path) as handle, gzip.open(handle) as stream:
            packed = os.fstat(handle.fileno()).st_size
            most = most_unpacked(packed)
            while content.tell() <= most and (part := stream.read(MIB)):
                content.write(part)
    except (OSError, EOFError, zlib.error) as problem:
        raise error(f"{path}: gzip that is damaged or cut short ({problem}). Fetch it again.") from problem
    if content.tell() <= most:
        return content.getvalue()
    if most < int(SHARE * memory_bytes()):
        raise error(
            f"{path}: a gzip bomb: {packed / MIB:,.1f} MiB that unpack to more than {most / MIB:,.0f} MiB. If it is "
            f"none, unpack it yourself: gunzip {path.name}"
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
            f"{what} {path}: a zip bomb: {packed / MIB:,.1f} MiB that unpack to {unpacked / MIB:,.0f} MiB. If it is "
            "none, save it without compression (arrays: np.savez in the place of np.savez_compressed)."
        )
    if unpacked > memory_bytes():
        raise error(
            f"{what} {path}: it unpacks to {unpacked / MIB:,.0f} MiB, more than the {memory_bytes() / MIB:,.0f} MiB of "
            "memory here. Make it smaller."
        )
