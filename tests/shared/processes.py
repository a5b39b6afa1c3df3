"""Other processes and threads in tests: what they do is waited for, however long a busy machine takes over it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

#: Ends a test that would wait for ever. Nothing that works takes as long.
HUNG_S = 600


def hear_signals() -> None:
    """Lets processes that tests start answer signals, though `nohup` or a shell in the background ignores them for us.

    What is ignored here would be ignored there; a handler is not handed on.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Returns as soon as the condition holds.

    Args:
        condition: Looked at again and again.
        what: Said where it never comes true.
    """
    end = time.monotonic() + HUNG_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a process whose lines coverage does not count.

    For those that are killed, before they could tell, and those that run what is counted elsewhere, between a lot of
    other people's code (untraced.py sees to that only in the tests' own process).
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def is_alive(process: int) -> bool:
    """Returns whether a process is there and not only its remains."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:  # it has gone since
        return False


def require_child_to_end(process: subprocess.Popen[str]) -> None:
    """Kills a process, which has printed the number of one that it has started, and waits for the end of that one."""
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert is_alive(child)
    process.kill()
    process.wait()
    wait_for(lambda: not is_alive(child), "the end of the child")


def signal_self(number: int, *, tests: int) -> None:
    """Sends this process a signal, which must not be the one that runs the tests."""
    assert os.getpid() != tests, "the tests themselves would have been signalled"
    os.kill(os.getpid(), number)


def marked(name: str, value: str) -> list[int]:
    """Returns the processes whose environment holds a variable with a value, remains aside (Linux)."""
    mark = f"{name}={value}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = place.read_bytes().split(b"\0")
        except OSError:  # it has gone, or belongs to somebody else
            continue
        if mark in environment and is_alive(int(place.parent.name)):
            found.append(int(place.parent.name))
    return found
