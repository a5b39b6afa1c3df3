"""What data may cost in memory: in proportion to what they are made of, and no more than the machine has.

A reader says what it is about to take before it takes it. So a small file that would fill the memory ends in a message,
while a large one may cost what its size makes likely.
"""

from __future__ import annotations

from edgecompress.errors import DataError
from edgecompress.machine import memory_bytes

MIB = 1024**2
#: What any data may cost.
FREE_BYTES = 512 * MIB
#: What each byte of larger data may cost: a cell of a table is two characters in a file and 64 bytes in memory.
PER_BYTE = 64
#: The share of the machine's memory that one array of data may take: it is split, and samples are drawn from it.
SHARE = 0.5
#: Columns of a table, keys of JSON objects, features: as many as a series may have steps.
MOST_COLUMNS = 65_536
#: Characters of the name of a class, a group or a column.
LONGEST_NAME = 1_000
#: More classes than this are a mistake (a regression target, an identifier) rather than a wish.
MAX_CLASSES = 100_000


def most_bytes(given: int) -> int:
    """Returns what data made of so many bytes may cost in memory."""
    return int(min(max(FREE_BYTES, PER_BYTE * given), SHARE * memory_bytes()))


def check_memory(needed: float, given: int, what: str, remedy: str) -> None:
    """Lets data pass that cost no more than they may.

    Args:
        needed: Bytes that are about to be taken.
        given: Bytes that they are made of.
        what: What takes them, the beginning of a sentence.
        remedy: What can be done, a sentence.

    Raises:
        DataError: They would cost more.
    """
    most = most_bytes(given)
    if needed > most:
        why = f"half of the {memory_bytes() / MIB:,.0f} MiB of this machine"
        if most < int(SHARE * memory_bytes()):
            why = f"in proportion to the {given / MIB:,.1f} MiB that they are made of"
        raise DataError(
            f"{what} would take {needed / MIB:,.0f} MiB of memory; at most {most / MIB:,.0f} MiB are given to "
            f"data ({why}). {remedy}"
        )
