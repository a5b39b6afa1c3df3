"""Work in forks of a process that has imported everything: each dies alone, and costs no imports."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def fork(work: Callable[[], int | None], said: Path, prepare: Callable[[], None] | None = None) -> int:
    """Starts work in a process of its own, which leads a group, and returns its number.

    Args:
        work: Returns the exit code, or nothing for 0.
        said: The file that takes all it prints.
        prepare: Done there before it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        with contextlib.suppress(OSError):  # should memory run out, the row dies, and not the benchmark
            Path("/proc/self/oom_score_adj").write_text("900")
        if prepare is not None:
            prepare()
        stream = os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        code = work() or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 98
    except BaseException:  # noqa: BLE001 - a fork that goes on would run the rest of the parent's program
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
