"""What may crash is tried in a child process first."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from edgecompress.processes.lifeline import end_with

#: A trial that takes longer has shown nothing.
LONGEST_S = 120.0
#: How native code ends a process that it has damaged.
CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """How a trial went.

    Attributes:
        told: The letters that it told on its way, in order.
        crashed: Whether a native crash ended it.
        possible: Whether there could be one: not on systems that cannot fork.
    """

    told: str = ""
    crashed: bool = False
    possible: bool = True


def attempt(action: Callable[[Tell], None], *, longest_s: float = LONGEST_S) -> Trial:
    """Carries out an action in a copy of this process and returns how far it came; nothing of it changes this one.

    The copy has all that this process has, so nothing is imported or built again. What it prints is lost.

    Args:
        action: Gets a function to tell letters by, one for each part that it has done. What it raises ends it.
        longest_s: After so many seconds it is ended.
    """
    if not hasattr(os, "fork"):
        return Trial(possible=False)
    reader, writer = os.pipe()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Python 3.12 on it warns of threads; the copy uses none
        child = os.fork()
    if not child:
        _be_the_copy(action, parent, reader, writer, longest_s)
    os.close(writer)
    told, status = bytearray(), None
    end = time.monotonic() + longest_s
    try:
        while (left := end - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
            piece = os.read(reader, 64)
            if not piece:
                status = os.waitpid(child, 0)[1]
                break
            told += piece
    finally:
        os.close(reader)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    crashed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES
    return Trial(told.decode(), crashed)


def _be_the_copy(action: Callable[[Tell], None], parent: int, reader: int, writer: int, longest_s: float) -> None:
    """Carries out the action and ends the process, without what Python does at its end: that is the original's."""
    try:
        end_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the original is interrupted too, and ends the copy
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(longest_s) + 1)  # should the original be killed where nothing tells us of it
        faulthandler.disable()
        gc.disable()
        os.close(reader)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        sys.stdout = sys.stderr = open(null, "w", closefd=False)  # noqa: SIM115 - a descriptor, to the end
        _without_core_files()
        torch.set_num_threads(1)  # those of the original are not in the copy
        action(lambda letter: _write(writer, letter))
    except BaseException:  # noqa: BLE001, S110 - whatever it is, the letters that were not told tell it
        pass
    finally:
        os._exit(0)


def _write(writer: int, letter: str) -> None:
    os.write(writer, letter.encode())


def _without_core_files() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
