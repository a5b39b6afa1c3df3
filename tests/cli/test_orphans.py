"""Commands that are ended from outside, at work in an interpreter that never answers: nothing of them goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.shared.endless import endless
from tests.shared.processes import HUNG_S, marked, unmeasured, wait_for

ROOT = Path(__file__).parents[2]
MARK = "EDGECOMPRESS_TESTS"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by what /proc tells of them"),
]


def interpreters(mark: str) -> list[int]:
    """Returns the processes of a command that run an interpreter."""
    found = []
    for process in marked(MARK, mark):
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:  # it has gone since
            continue
        if b"edgecompress.tflite.runtime.child" in command:
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("inspect", signal.SIGKILL, -9),
        ("bench", signal.SIGHUP, 129),
    ],
)
def test_nothing_goes_on(command: str, number: signal.Signals, code: int, tmp_path: Path) -> None:
    path, mark = tmp_path / "endless.tflite", uuid.uuid4().hex
    path.write_bytes(endless())
    with subprocess.Popen(
        [sys.executable, "-m", "edgecompress", command, str(path)], cwd=ROOT, start_new_session=True,
        env={**unmeasured(os.environ), MARK: mark}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        wait_for(lambda: interpreters(mark), "an interpreter at work")
        process.send_signal(number)
        wait_for(lambda: not marked(MARK, mark), "the end of all processes of the command")
        assert process.wait(HUNG_S) == code
        said = process.stderr.read()
    assert "Traceback" not in said
    if number in (signal.SIGTERM, signal.SIGHUP):
        assert said == f"error: ended by {number.name}\n"


def test_a_terminal_that_has_gone_ends_no_command_that_was_told_to_go_on(tmp_path: Path) -> None:
    """`nohup edgecompress ...`: SIGHUP is ignored from the start."""
    path, mark = tmp_path / "endless.tflite", uuid.uuid4().hex
    path.write_bytes(endless())
    program = f"trap '' HUP; exec {sys.executable} -m edgecompress inspect {path}"
    with subprocess.Popen(
        ["sh", "-c", program], cwd=ROOT, start_new_session=True, env={**unmeasured(os.environ), MARK: mark},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        wait_for(lambda: interpreters(mark), "an interpreter at work")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HUNG_S) == 143
        wait_for(lambda: not marked(MARK, mark), "the end of all processes of the command")
