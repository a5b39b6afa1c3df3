"""The border to readers of strangers' files: whatever such a reader raises becomes an error that names the file.

Readers are libraries, many of them native. What they raise on a file that nobody foresaw is no list that could be
written down: Python's errors, their own, and the panics of Rust's libraries (tokenizers, safetensors), which reach
Python as a `PanicException` that is no `Exception`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from edgecompress.errors import EdgecompressError, ModelError, ResourceError, ResultError
from edgecompress.store.store import StageResult

#: What says nothing of the file: the user's wish to stop, the machine's want of memory, and what is explained already.
PASSING = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, EdgecompressError)
#: No line of a library's is worth more of the screen.
LONGEST = 300


@contextlib.contextmanager
def at_border(explain: Callable[[BaseException], EdgecompressError]) -> Iterator[None]:
    """Turns whatever is raised inside into an error of ours; interrupts, memory that ran out and ours pass through.

    Only a reader of somebody else's file may stand inside: an error of the program's own would be laid at that file's
    door.

    Args:
        explain: Makes the error of what was raised: which file, what it should have been, how to mend it.
    """
    try:
        yield
    except PASSING:
        raise
    except BaseException as error:
        raise explain(error) from error


@contextlib.contextmanager
def of_result(result: StageResult) -> Iterator[None]:
    """Turns what is raised by reading a finished step's files into an error that has the step made again.

    Their hashes fit, so it is their form: nothing but the reading of them may stand inside.
    """
    try:
        with at_border(lambda error: ModelError(described(error))):
            yield
    except ResultError:
        raise
    except ResourceError as error:
        raise ResultError(str(error), (result.stage, result.fingerprint)) from error


def described(error: BaseException) -> str:
    """Returns what kind of error it is and the first line of its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:LONGEST].rstrip('.!')}" if lines else type(error).__name__
