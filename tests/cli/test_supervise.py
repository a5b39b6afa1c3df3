"""The parent that waits: exit codes, Ctrl-C, SIGTERM, a child that dies."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgecompress_cli import main, supervise

ROOT = Path(__file__).parents[2]
#: A work that notes its own process and cannot be interrupted: signals wait while native code runs.
STUBBORN = """
import os, signal, sys, time
from edgecompress_cli import main, supervise

def work():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(60)
    return 0

main.invoke = lambda arguments: work()
sys.argv = ["edgecompress", "run", *sys.argv[1:]]
sys.exit(main.main())
"""

#: A work that goes on until it is interrupted.
BACKGROUND = """
import sys, time
from edgecompress_cli import main
def work():
    print("begun", flush=True)
    time.sleep(60)
    return 0
main.invoke = lambda arguments: work()
sys.argv = ["edgecompress", "run"]
sys.exit(main.main())
"""


def once(begun: Path, number: int) -> threading.Thread:
    """Sends this process a signal as soon as the child has begun: earlier it would hit pytest itself."""

    def send() -> None:
        deadline = time.monotonic() + 30
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if begun.exists():
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def note(path: Path) -> None:
    """Writes this process's number in one go."""
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


@pytest.mark.parametrize("code", [0, 3, 5])
def test_exit_codes_are_passed_on(code: int) -> None:
    assert supervise.supervise(lambda: code) == code


def test_what_the_child_writes_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        sys.stdout.write("out")
        sys.stderr.write("err")
        return 0

    assert supervise.supervise(work) == 0
    assert capfd.readouterr() == ("out", "err")


def test_an_error_that_gets_out_of_the_child_is_an_internal_one(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise ZeroDivisionError

    assert supervise.supervise(work) == 1
    capfd.readouterr()


def test_interrupt_is_answered_by_the_child_where_it_can(tmp_path: Path) -> None:
    begun, answered = tmp_path / "begun", tmp_path / "answered"

    def work() -> int:
        try:
            begun.touch()
            time.sleep(30)
        except KeyboardInterrupt:
            answered.touch()
            return 130
        return 0

    thread = once(begun, signal.SIGINT)
    assert supervise.supervise(work) == 130
    thread.join()
    assert answered.exists()


def test_interrupt_that_gets_out_of_the_child(tmp_path: Path) -> None:
    def work() -> int:
        (tmp_path / "begun").touch()
        time.sleep(30)
        return 0

    thread = once(tmp_path / "begun", signal.SIGINT)
    assert supervise.supervise(work) == 130
    thread.join()


def test_interrupt_before_there_is_a_child_hits_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise KeyboardInterrupt

    def kill(process: int, _number: int) -> None:
        raise AssertionError(f"signalled {process}")

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(KeyboardInterrupt):
        supervise.supervise(lambda: 0)


def test_second_interrupt_does_not_cut_off_the_answer_to_the_first(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to both, and the parent passes it on: the child is told twice."""
    said = tmp_path / "said"

    def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            said.write_text("whole")
            return 130
        return 0

    assert supervise.supervise(work) == 130
    assert said.read_text() == "whole"


def test_a_child_that_does_not_listen_is_ended_all_the_same(tmp_path: Path) -> None:
    noted, whole = tmp_path / "child", tmp_path / "whole"

    def work() -> int:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        note(noted)
        time.sleep(60)
        whole.touch()
        return 0

    thread = once(noted, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        supervise.supervise(work)
    thread.join()
    assert not is_alive(int(noted.read_text()))
    assert not whole.exists()


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGKILL, "ran out of memory"), (signal.SIGSEGV, "native code crashed")]
)
def test_a_child_that_dies(number: signal.Signals, cause: str) -> None:
    def work() -> int:
        faulthandler.disable()  # pytest's, which would print where
        os.kill(os.getpid(), number)
        return 0

    with pytest.raises(supervise.ChildDied, match=f"{number.name}.*{cause}") as caught:
        supervise.supervise(work)
    assert caught.value.number == number


def test_termination_ends_the_child(tmp_path: Path) -> None:
    noted = tmp_path / "child"

    def work() -> int:
        note(noted)
        time.sleep(30)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    thread = once(noted, signal.SIGTERM)
    with pytest.raises(supervise.Terminated):
        supervise.supervise(work)
    thread.join()
    assert not is_alive(int(noted.read_text()))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_parent_that_is_killed_takes_the_child_with_it() -> None:
    """`kill -9` of a run: an orphan would hold the run's folder, and the same command could not go on."""
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert is_alive(child)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(child)


def test_without_fork_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    here = os.getpid()
    assert supervise.supervise(lambda: int(os.getpid() == here) + 2) == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_program_answers_for_a_child_it_had_to_end(number: signal.Signals, code: int, as_json: bool) -> None:
    program = [sys.executable, "-c", STUBBORN, *(["--json"] if as_json else [])]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        child = int(process.stdout.readline())
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert time.monotonic() - began < 2
    assert process.returncode == code
    assert not is_alive(child)
    said = json.loads(out)["error"]["message"] if as_json else err
    assert "Finished stages are kept: run the same command again to go on." in said


def test_interrupt_reaches_a_background_job(tmp_path: Path) -> None:
    """A shell without job control starts `command &` with SIGINT ignored."""
    program = f"{sys.executable} -c '{BACKGROUND}' > {tmp_path}/out 2>&1 & echo $!; wait $!; echo code $?"
    with subprocess.Popen(["sh", "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        job = int(shell.stdout.readline())
        deadline = time.monotonic() + 20
        while not ((tmp_path / "out").exists() and (tmp_path / "out").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(job, signal.SIGINT)
        out, _ = shell.communicate(timeout=10)
    assert out == "code 130\n"


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize("as_json", [False, True])
def test_memory_that_ran_out_is_a_resource_error(
    command: str, as_json: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def die(_: Any) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    monkeypatch.setattr(main, "invoke", die)
    monkeypatch.setattr(sys, "argv", ["edgecompress", command, "x", *(["--json"] if as_json else [])])
    assert main.main() == 4
    out, err = capfd.readouterr()
    said = json.loads(out)["error"]["message"] if as_json else err
    assert "ended by SIGKILL: most often the system ran out of memory. Finished stages are kept." in said
