"""What an archive from outside may hold: no more than its size makes likely and this machine's memory takes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from edgecompress.errors import ResourceError
from edgecompress.machine import memory_bytes

#: Below this nothing is a bomb.
HARMLESS_BYTES = 256 * 1024**2
#: What compresses further than this holds next to nothing: pictures and weights come to 10 at most.
LARGEST_RATIO = 200
MIB = 1024**2


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
