"""What an interpreter may take of the machine's memory: a small file may ask for any amount."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edgecompress.errors import ModelError, UsageError
from edgecompress.machine import memory_bytes

#: MiB that an interpreter may take on a file from outside, where a model needs more than is allowed by itself.
VARIABLE = "EDGECOMPRESS_MEMORY_MIB"
MIB = 1024**2
#: An interpreter may take this much, and this many times the file: kernels repack weights, and unpack small ones.
FREE_BYTES, TIMES_THE_FILE = 768 * MIB, 16
#: Address space an interpreter may always take; libraries reserve more than they use.
LEAST_ADDRESS_SPACE = 8 * 1024**3
#: Stacks are reserved, not used: threads are no matter of the file.
THREAD_BYTES = 16 * MIB

_allowed: int | None = None


def allowed_for(*paths: Path) -> int:
    """Returns the bytes an interpreter may take on files from outside, beside its libraries.

    Raises:
        UsageError: EDGECOMPRESS_MEMORY_MIB is no number of MiB.
    """
    told = os.environ.get(VARIABLE)
    if told:
        if not told.isdecimal() or not int(told):
            raise UsageError(f"{VARIABLE} is {told!r}: a whole number of MiB was expected, such as 4096")
        return int(told) * MIB
    size = 0
    with contextlib.suppress(OSError):  # whoever opens it will say so
        size = sum(path.stat().st_size for path in paths)
    return FREE_BYTES + TIMES_THE_FILE * size


def in_words(size: int) -> str:
    """Returns a number of bytes as people say it: `640 MiB`, `8.0 GiB`."""
    return f"{size / 1024**3:,.1f} GiB" if size >= 1024**3 else f"{-(-size // MIB)} MiB"


def require_room(path: Path, needed: int, name: str = "") -> int:
    """Returns what an interpreter may take on a file (`allowed_for`) that needs so much for its tensors.

    Raises:
        ModelError: They do not fit.
        UsageError: EDGECOMPRESS_MEMORY_MIB is no number of MiB.
    """
    allowed = allowed_for(path)
    if needed <= allowed:
        return allowed
    raise ModelError(
        f"{name}{': ' if name else ''}its tensors need {in_words(needed)} at once, and an interpreter may take "
        f"{in_words(allowed)} on a file of this size. If it is meant to need them, allow more: "
        f"{VARIABLE}={-(-2 * needed // MIB)}"
    )


def limit_address_space() -> None:
    """Caps this process's address space at the machine's memory."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not a Unix, or it has none
        import resource

        total = max(memory_bytes(), LEAST_ADDRESS_SPACE)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (total if hard == resource.RLIM_INFINITY else min(total, hard), hard))


def allow(size: int) -> None:
    """Sets what `limit` leaves to the interpreter of this process, in bytes."""
    global _allowed  # noqa: PLW0603 - one process, one limit
    _allowed = size


def limit(threads: int = 1) -> None:
    """Lets this process take no more than it has now and what `allow` said; to be called once libraries are loaded."""
    if _allowed is None:
        return
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = _data_bytes()
        if used is None:  # not Linux: only the address space is limited
            return
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = used + _allowed + threads * THREAD_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def ran_out() -> str:
    """Returns what is said where memory ran out in this process."""
    if _allowed is None:
        return "the interpreter ran out of memory"
    return (
        f"the interpreter ran out of memory: it may take {in_words(_allowed)} on a file of this size. If the model is "
        f"meant to need more, allow it: {VARIABLE}=4096"
    )


def without_reason(error: BaseException) -> str:
    """Returns what is said where an interpreter failed and did not say why."""
    told = f"it gave no reason ({type(error).__name__})"
    if _allowed is None:
        return told
    return f"{told}; it may take {in_words(_allowed)} of memory, and {VARIABLE} may allow it more"


def _data_bytes() -> int | None:
    """Returns what the system counts under this limit now."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmData:")]
    return int(found[0]) * 1024 if found else None
