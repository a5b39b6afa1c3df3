"""Runs the work in a child process, so that Ctrl-C is answered at once whatever native code is busy with.

A converter or an interpreter may hold Python's lock for many seconds; the parent, which does nothing but wait, ends the
child after a moment of grace. Everything a run keeps is written atomically, so ending it is safe at any point.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NoReturn

from edgecompress.errors import ExitCode
from edgecompress.processes.lifeline import end_when_closed, end_with

Handler = Callable[[int, FrameType | None], Any] | int | None
GRACE_S = 1.0
POLL_S = 0.02
#: Bytes in which the child says what it is at, for the parent that outlives it.
_ROOM, _ENDED_BY = 4096, b"\0"
_at: mmap.mmap | None = None


class ChildDied(Exception):  # noqa: N818 - it is an event, not a mistake
    """The child ended by a signal of its own."""

    def __init__(self, number: int) -> None:
        """Takes the signal's number."""
        cause = "most often the system ran out of memory" if number == signal.SIGKILL else "native code crashed"
        at = last_told()
        while_at = f" while {at}" if at else ""
        super().__init__(f"the run was ended by {signal.Signals(number).name}{while_at}: {cause}")
        self.number = number


def tell(at: str) -> None:
    """Lets the parent know what this process is at, for it to say should native code end the process there.

    Args:
        at: As it stands behind `while`.
    """
    if _at is not None:
        words = at.encode("utf-8", "replace").replace(_ENDED_BY, b" ")[: _ROOM - 1]
        _at[: len(words) + 1] = words + _ENDED_BY


def last_told() -> str:
    """Returns what a child told last; "" where it told nothing."""
    return "" if _at is None else bytes(_at[:]).partition(_ENDED_BY)[0].decode("utf-8", "replace")


class Terminated(Exception):  # noqa: N818 - it is an event, not a mistake
    """SIGTERM or SIGHUP was sent to this process, which has ended the child."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        """Takes the signal's number."""
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def supervise(work: Callable[[], int]) -> int:
    """Returns the exit code of `work`, run in a forked child (in this process where there is no fork).

    Raises:
        KeyboardInterrupt: The user interrupted and the child had to be ended before it could say so itself.
        Terminated: This process was told to end (SIGTERM; SIGHUP, where its terminal is gone); so is the child.
        ChildDied: A signal ended the child (memory exhausted, native crash).
    """
    if not hasattr(os, "fork"):
        return work()
    global _at  # noqa: PLW0603 - the process has one parent, and what it tells it has one place
    sys.stdout.flush()
    sys.stderr.flush()
    _at = mmap.mmap(-1, _ROOM)  # anonymous memory that a fork shares
    child = 0
    terminated = 0

    def terminate(number: int, _frame: object) -> None:
        # A CI job that is cancelled gets SIGTERM: no orphan may go on training.
        nonlocal terminated
        terminated = number
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    # Before the fork, so that there is no moment in which the signal would end the parent alone.
    # A shell starts its background jobs with SIGINT ignored; `kill -INT` must stop those too.
    previous = _handled({**dict.fromkeys(_endings(), terminate), signal.SIGINT: signal.default_int_handler})
    interrupt = previous.pop(signal.SIGINT)
    # The child sees by this pipe, of which only we hold the one end, that we are gone: not every system tells it.
    watched, held = os.pipe()
    try:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _follow(parent, watched, held)
            _handled(previous)
            _be_child(work)
        if terminated:
            terminate(terminated, None)
        code = _exit_code(os.waitpid(child, 0)[1])
    except ChildDied:
        if terminated:
            raise Terminated(terminated) from None
        raise
    except KeyboardInterrupt:
        ended = _end(child)
        if ended is None:
            raise
        code = ended
    finally:
        _handled({**previous, signal.SIGINT: interrupt})
        os.close(watched)
        os.close(held)
    return code


def _follow(parent: int, watched: int, held: int) -> None:
    """Lets this process, the child, end with its parent: `kill -9` of a run must leave nothing that holds it."""
    os.close(held)
    if not end_with(parent):
        end_when_closed(watched)


def _handled(handlers: Mapping[int, Handler]) -> dict[int, Handler]:
    """Sets who answers signals, and returns who did before."""
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


def _endings() -> list[int]:
    """Returns the signals that end this process, and with it the child: not those it was started to ignore (nohup)."""
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    return [n for n in numbers if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]


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
