"""One at a time, and no lock outlives its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError
from edgecompress.store.file_lock import BusyError, exclusive
from tests.shared.processes import HUNG_S

HOLD = "import sys; from pathlib import Path; from edgecompress.store.file_lock import exclusive\n"
HOLD += "with exclusive(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"


def holding(path: Path) -> subprocess.Popen[str]:
    """Starts a process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_file_is_there_as_long_as_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    with exclusive(path):
        assert path.read_text() == str(os.getpid())
    assert not path.exists()
    with exclusive(path):
        pass


def test_a_second_process_is_told_who_holds_it_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with holding(path) as process:
        with pytest.raises(BusyError, match=f"process {process.pid} is at work here"), exclusive(path):
            pytest.fail("held twice")
        assert path.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with exclusive(path):
            assert path.read_text() == str(os.getpid())
    assert not path.exists()


def test_who_waits_goes_on_when_the_holder_is_gone(tmp_path: Path) -> None:
    path, told, order = tmp_path / ".lock", list[str](), list[str]()
    waits = threading.Event()

    def wait() -> None:
        def waiting(holder: str) -> None:
            told.append(holder)
            waits.set()

        with exclusive(path, waiting):
            order.append("second")

    with exclusive(path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waits.wait(HUNG_S)
        order.append("first")
    thread.join(HUNG_S)
    assert order == ["first", "second"]
    assert told == [f"process {os.getpid()}"]
    assert not path.exists()


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with pytest.raises(ValueError, match="inside"), exclusive(path):
        raise ValueError("inside")
    with exclusive(path):
        pass


def test_a_lock_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot lock"), exclusive(tmp_path / "file" / ".lock"):
        pytest.fail("there is no such folder")
