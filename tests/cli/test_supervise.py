"""The parent that waits: exit codes, Ctrl-C, SIGTERM, a child that dies."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecompress.context import Event
from edgecompress_cli import main, supervise
from edgecompress_cli.display import told_parent
from tests.shared.processes import HUNG_S, is_alive, require_child_to_end, signal_self, wait_for

ROOT = Path(__file__).parents[2]
#: A work that notes its own process and cannot be interrupted: signals wait while native code runs.
STUBBORN = """
import os, signal, sys, time
from edgecompress_cli import main, supervise

def work():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(3600)
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
    time.sleep(3600)
    return 0
main.invoke = lambda arguments: work()
sys.argv = ["edgecompress", "run"]
sys.exit(main.main())
"""

#: Supervises the work that stands in front of it and tells how that ended. The work tells its process first.
SUPERVISED = """
import signal, sys
from edgecompress_cli import supervise

supervise.GRACE_S = float(sys.argv[1])
before = signal.getsignal(signal.SIGTERM)
try:
    print(supervise.supervise(work))
except (KeyboardInterrupt, supervise.Terminated) as error:
    print(type(error).__name__)
assert signal.getsignal(signal.SIGTERM) == before
"""


def supervised(work: str, number: int, grace_s: float = HUNG_S) -> tuple[int, list[str]]:
    """Signals the parent of a work, in a session of its own, as soon as that has begun.

    Returns:
        The work's process, and the lines that it and its parent wrote then.
    """
    program = [sys.executable, "-c", "import os, signal, time\n" + work + SUPERVISED, str(grace_s)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.poll() is None
        parent.send_signal(number)
        out, _ = parent.communicate(timeout=HUNG_S)
    assert parent.returncode == 0
    return child, out.splitlines()


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


def test_interrupt_is_answered_by_the_child_where_it_can() -> None:
    work = """
def work():
    try:
        print(os.getpid(), flush=True)
        time.sleep(3600)
    except KeyboardInterrupt:
        print("answered", flush=True)
        return 130
"""
    _, said = supervised(work, signal.SIGINT)
    assert said == ["answered", "130"]


def test_interrupt_that_gets_out_of_the_child() -> None:
    work = """
def work():
    print(os.getpid(), flush=True)
    time.sleep(3600)
"""
    _, said = supervised(work, signal.SIGINT)
    assert said == ["130"]


def test_interrupt_before_there_is_a_child_hits_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise KeyboardInterrupt

    def kill(process: int, _number: int) -> None:
        raise AssertionError(f"signalled {process}")

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(KeyboardInterrupt):
        supervise.supervise(lambda: 0)


def test_second_interrupt_does_not_cut_off_the_answer_to_the_first() -> None:
    """A terminal sends Ctrl-C to both, and the parent passes it on: the child is told twice."""
    work = """
def work():
    try:
        print(os.getpid(), flush=True)
        time.sleep(3600)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGINT)
        print("whole", flush=True)
        return 130
"""
    _, said = supervised(work, signal.SIGINT)
    assert said == ["whole", "130"]


def test_a_child_that_does_not_listen_is_ended_all_the_same() -> None:
    work = """
def work():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(3600)
    print("whole", flush=True)
"""
    child, said = supervised(work, signal.SIGINT, grace_s=0.1)
    assert said == ["KeyboardInterrupt"]
    assert not is_alive(child)


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGKILL, "ran out of memory"), (signal.SIGSEGV, "native code crashed")]
)
def test_a_child_that_dies(number: signal.Signals, cause: str) -> None:
    tests = os.getpid()

    def work() -> int:
        faulthandler.disable()  # pytest's, which would print where
        signal_self(number, tests=tests)
        return 0

    with pytest.raises(supervise.ChildDied, match=f"{number.name}.*{cause}") as caught:
        supervise.supervise(work)
    assert caught.value.number == number


def test_what_a_child_was_at_when_it_died_is_said() -> None:
    tests = os.getpid()

    def work() -> int:
        faulthandler.disable()
        told_parent(Event("stage-start", "quantize", {}))
        told_parent(Event("doing", "", {"message": "running the INT8 file of the network in LiteRT"}))
        told_parent(Event("note", "", {"message": "something else"}))
        signal_self(signal.SIGABRT, tests=tests)
        return 0

    said = "ended by SIGABRT while running the INT8 file of the network in LiteRT: native code crashed"
    with pytest.raises(supervise.ChildDied, match=said):
        supervise.supervise(work)
    assert supervise.supervise(lambda: 0) == 0
    assert supervise.last_told() == ""  # of another work


def test_a_crash_at_the_network_comes_with_a_way_to_find_the_layer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = os.getpid()

    def work(_arguments: object) -> int:
        faulthandler.disable()
        supervise.tell("converting the distill network to a flatbuffer")
        signal_self(signal.SIGSEGV, tests=tests)
        return 0

    monkeypatch.setattr(main, "invoke", work)
    monkeypatch.setattr(sys, "argv", ["edgecompress", "plan", "recipe.yaml", "--convert"])
    assert main.main() == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "SIGSEGV while converting the distill network to a flatbuffer" in said
    assert "Leave parts of the network out" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_ends_the_child(number: signal.Signals) -> None:
    work = """
def work():
    print(os.getpid(), flush=True)
    time.sleep(3600)
"""
    child, said = supervised(work, number)
    assert said == ["Terminated"]
    assert not is_alive(child)


@pytest.mark.parametrize("by", ["the system", "the pipe"])
def test_a_parent_that_is_killed_takes_the_child_with_it(by: str) -> None:
    """`kill -9` of a run: an orphan would hold the run's folder, and the same command could not go on."""
    if by == "the system" and sys.platform != "linux":
        pytest.skip("only Linux ends a child with its parent")
    elsewhere = "from edgecompress.processes import lifeline\nlifeline.PR_SET_PDEATHSIG = -1\n"
    command = [sys.executable, "-c", ("" if by == "the system" else elsewhere) + STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True, start_new_session=True) as process:
        require_child_to_end(process)


def test_without_fork_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    here = os.getpid()
    assert supervise.supervise(lambda: int(os.getpid() == here) + 2) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_program_answers_for_a_child_it_had_to_end(number: signal.Signals, code: int, as_json: bool) -> None:
    program = [sys.executable, "-c", STUBBORN, *(["--json"] if as_json else [])]
    with subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        child = int(process.stdout.readline())
        assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=HUNG_S)
    assert supervise.GRACE_S <= 1.0  # what it waits before: with starting and ending, the user gets an answer in two
    assert process.returncode == code
    assert not is_alive(child)
    said = json.loads(out)["error"]["message"] if as_json else err
    assert "Finished stages are kept: run the same command again to go on." in said


def test_interrupt_reaches_a_background_job(tmp_path: Path) -> None:
    """A shell without job control starts `command &` with SIGINT ignored."""
    program = f"{sys.executable} -c '{BACKGROUND}' > {tmp_path}/out 2>&1 & echo $!; wait $!; echo code $?"
    said = tmp_path / "out"
    with subprocess.Popen(
        ["sh", "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as shell:
        assert shell.stdout is not None
        job = int(shell.stdout.readline())
        wait_for(lambda: said.exists() and said.read_text(), "the beginning of the work")
        assert os.getsid(job) == shell.pid
        os.kill(job, signal.SIGINT)
        out, _ = shell.communicate(timeout=HUNG_S)
    assert out == "code 130\n"


@pytest.mark.parametrize("command", ["run", "verify", "inspect", "bench", "doctor"])
@pytest.mark.parametrize("as_json", [False, True])
def test_memory_that_ran_out_is_a_resource_error(
    command: str, as_json: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tests = os.getpid()

    def die(_: Any) -> int:
        signal_self(signal.SIGKILL, tests=tests)
        return 0

    monkeypatch.setattr(main, "invoke", die)
    monkeypatch.setattr(sys, "argv", ["edgecompress", command, "x", *(["--json"] if as_json else [])])
    assert main.main() == 4
    out, err = capfd.readouterr()
    said = json.loads(out)["error"]["message"] if as_json else err
    assert "ended by SIGKILL: most often the system ran out of memory." in said
    assert ("Finished stages are kept." in said) == (command in ("run", "verify"))
