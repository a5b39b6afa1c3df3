"""Runs the work in a child process, so that Ctrl-C is answered at once whatever native code is busy with.

A converter or an interpreter may hold Python's lock for many seconds; the parent, which does nothing but wait, ends the
child after a moment of grace. Everything a run keeps is written atomically, so ending it is safe at any point.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from edgecompress.errors import ExitCode

GRACE_S = 1.0
POLL_S = 0.02
#: Of Linux's <sys/prctl.h>.
PR_SET_PDEATHSIG = 1


class ChildDied(Exception):  # noqa: N818 - it is an event, not a mistake
    """The child ended by a signal of its own."""

    def __init__(self, number: int) -> None:
        """Takes the signal's number."""
        cause = "most often the system ran out of memory" if number == signal.SIGKILL else "native code crashed"
        super().__init__(f"the run was ended by {signal.Signals(number).name}: {cause}")
        self.number = number


class Terminated(Exception):  # noqa: N818 - it is an event, not a mistake
    """SIGTERM was sent to this process, which has ended the child."""

    exit_code = 128 + signal.SIGTERM

    def __init__(self) -> None:
        """Says so."""
        super().__init__("ended by SIGTERM")


def supervise(work: Callable[[], int]) -> int:
    """Returns the exit code of `work`, run in a forked child (in this process where there is no fork).

    Raises:
        KeyboardInterrupt: The user interrupted and the child had to be ended before it could say so itself.
        Terminated: This process was told to end (SIGTERM); the child is gone.
        ChildDied: A signal ended the child (memory exhausted, native crash).
    """
    if not hasattr(os, "fork"):
        return work()
    sys.stdout.flush()
    sys.stderr.flush()
    child = 0
    terminated = False

    def terminate(_number: int, _frame: object) -> None:
        # A CI job that is cancelled gets SIGTERM: no orphan may go on training.
        nonlocal terminated
        terminated = True
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    # Before the fork, so that there is no moment in which the signal would end the parent alone.
    previous = signal.signal(signal.SIGTERM, terminate)
    # A shell starts its background jobs with SIGINT ignored; `kill -INT` must stop those too.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _end_with(parent)
            signal.signal(signal.SIGTERM, previous)
            _be_child(work)
        if terminated:
            terminate(signal.SIGTERM, None)
        code = _exit_code(os.waitpid(child, 0)[1])
    except ChildDied:
        if terminated:
            raise Terminated from None
        raise
    except KeyboardInterrupt:
        ended = _end(child)
        if ended is None:
            raise
        code = ended
    finally:
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, interrupt)
    return code


def _end_with(parent: int) -> None:
    """Lets the system end this process with its parent (Linux): `kill -9` of a run must leave nothing that holds it."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (AttributeError, OSError):  # another system: an orphan ends by itself, when its work is done
        return
    if os.getppid() != parent:  # it was gone before we asked
        os._exit(int(ExitCode.INTERRUPTED))


def _be_child(work: Callable[[], int]) -> NoReturn:
    def interrupt_once(number: int, _frame: object) -> None:
        # A terminal sends Ctrl-C to parent and child, and the parent sends it too: one is enough, and the second must
        # not cut off the message about the first.
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    code = int(ExitCode.INTERNAL)
    try:
        signal.signal(signal.SIGINT, interrupt_once)
        code = work()
    except KeyboardInterrupt:
        code = int(ExitCode.INTERRUPTED)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _exit_code(status: int) -> int:
    if os.WIFSIGNALED(status):
        raise ChildDied(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _end(child: int) -> int | None:
    """Gives the child a moment to end by itself and returns its exit code, or ends it and returns None."""
    if not child:  # there is none yet, and a signal to process 0 would hit everybody in our group
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGINT)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        # A second Ctrl-C changes nothing: the end is a second away.
        with contextlib.suppress(KeyboardInterrupt):
            done, status = os.waitpid(child, os.WNOHANG)
            if done == child:
                return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
            time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
