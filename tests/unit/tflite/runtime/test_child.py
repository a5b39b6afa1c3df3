"""The child process: answers, progress, every kind of failure, and its end when ours comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from edgecompress.errors import ModelError, ResourceError, UsageError
from edgecompress.tflite.runtime import child
from edgecompress.tflite.runtime.child import call
from tests.shared.processes import HUNG_S, is_alive, wait_for
from tests.unit.made_flatbuffer import Op, int8, make_bytes

pytestmark = pytest.mark.slow

#: What the children of these tests can do beside the tasks of the module.
TASKS = """
    import os, signal, stat, sys, time
    from edgecompress.errors import ModelError, ResourceError, UsageError, DataError

    def echo(arguments, progress):
        print("this must not mix with the answer")
        os.write(1, b"nor this")
        return arguments

    def count(arguments, progress):
        for done in range(arguments["to"]):
            progress(done + 1, arguments["to"])
        return "counted"

    def fail(arguments, progress):
        kinds = {"model": ModelError, "resource": ResourceError, "usage": UsageError, "data": DataError}
        raise kinds[arguments["kind"]]("it says why")

    def crash(arguments, progress):
        os.write(2, b"first\\nsecond\\n\\nthird\\nthe tensor is null\\n")
        os.kill(os.getpid(), arguments["signal"])

    def bug(arguments, progress):
        raise ZeroDivisionError("what a pity")

    def sleep(arguments, progress):
        progress(os.getpid(), 0)
        time.sleep(3600)

    def begin_late(arguments, progress):
        time.sleep(arguments["before_s"])
        progress(0, 1)
        return "done"

    def fall_silent(arguments, progress):
        progress(0, 9)
        progress(1, 9)
        progress(2, 9)
        time.sleep(3600)

    def grow(arguments, progress):
        from edgecompress.tflite.runtime import memory
        memory.limit()
        held = []
        for _ in range(64):
            held.append(bytes(16 << 20))
        return len(held)

    def orphan(arguments, progress):
        progress(os.getpid(), 0)
        if arguments["busy"]:
            while True:
                pass
        time.sleep(3600)

    def eat(arguments, progress):
        bytearray(1 << 60)

    def leave(arguments, progress):
        os._exit(0)

    def tear(arguments, progress):
        for descriptor in range(3, 20):
            try:
                is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            except OSError:
                continue
            if is_pipe:
                os.write(descriptor, b'{"result": 1')
        os._exit(0)
"""


#: A process of its own whose child does not end by itself; it tells which one that is.
PARENT = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from edgecompress.tflite.runtime import child

popen = subprocess.Popen
def started(command, **kwargs):
    own = "import os, sys, edgecompress.processes.lifeline as line, test_tasks;"
    if "NO_SYSTEM" in os.environ:
        own += "line.PR_SET_PDEATHSIG = -1;"
    return popen([sys.executable, "-P", "-c", own + "sys.exit(test_tasks.start())", "-", *command[4:]], **kwargs)

child.subprocess.Popen = started
child.call("orphan", {"busy": sys.argv[2:] == ["busy"]}, on_progress=lambda pid, _: print(pid, flush=True))
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets children find the tasks: a `sitecustomize` on their path adds them when the module is there."""
    source = textwrap.dedent(TASKS) + textwrap.dedent("""
        class Tasks(dict):
            def __missing__(self, name):
                return globals()[name]

        def start():
            import edgecompress.tflite.runtime.child as module
            module.TASKS = Tasks(module.TASKS)
            return module.main(sys.argv[2], int(sys.argv[3]))
    """)
    (tmp_path / "test_tasks.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    popen = subprocess.Popen

    def started(command: list[str], **kwargs: object) -> subprocess.Popen[bytes]:
        if "-m" not in command:  # one of the tests' own
            return popen(command, **kwargs)
        assert command[:4] == [sys.executable, "-P", "-m", "edgecompress.tflite.runtime.child"]
        own = "import sys, test_tasks; sys.exit(test_tasks.start())"
        return popen([sys.executable, "-P", "-c", own, "-", *command[4:]], **kwargs)

    monkeypatch.setattr(child.subprocess, "Popen", started)


def test_arguments_go_in_and_the_result_comes_out() -> None:
    arguments = {"text": "ä\n", "numbers": [1, 2.5, None], "nested": {"a": True}}
    assert call("echo", arguments) == arguments


def test_progress_is_told_in_order() -> None:
    told: list[tuple[int, int]] = []
    assert call("count", {"to": 5}, on_progress=lambda done, total: told.append((done, total))) == "counted"
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert call("count", {"to": 5}) == "counted"


@pytest.mark.parametrize(
    ("kind", "error"),
    [("model", ModelError), ("resource", ResourceError), ("usage", UsageError), ("data", ResourceError)],
)
def test_errors_keep_their_class_and_message(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^it says why$") as caught:
        call("fail", {"kind": kind})
    assert type(caught.value) is error


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_an_error_with_its_last_words(number: signal.Signals) -> None:
    with pytest.raises(ModelError) as caught:
        call("crash", {"signal": int(number)})
    assert str(caught.value) == (
        f"the interpreter crashed ({number.name}). Its last words: second / third / the tensor is null"
    )


def test_a_child_that_leaves_without_an_answer_is_a_crash() -> None:
    with pytest.raises(ModelError, match=r"^the interpreter crashed \(no answer\)\.$"):
        call("leave", {})


def test_half_an_answer_is_none() -> None:
    with pytest.raises(ModelError, match=r"crashed \(no answer\)"):
        call("tear", {})


def test_a_bug_is_not_taken_for_a_bad_file() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)exit code 1.*in bug.*ZeroDivisionError: what a pity") as caught:
        call("bug", {})
    assert type(caught.value) is RuntimeError


def test_no_memory_is_an_error() -> None:
    with pytest.raises(ModelError, match="ran out of memory"):
        call("eat", {})


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what is mapped")
def test_memory_is_limited_beside_what_the_libraries_take() -> None:
    with pytest.raises(ModelError, match=r"out of memory: it may take 200 MiB.*EDGECOMPRESS_MEMORY_MIB=4096"):
        call("grow", {}, memory_bytes=200 << 20)
    assert call("grow", {}, memory_bytes=2 << 30) == call("grow", {}) == 64


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    monkeypatch.setattr(child.patience, "SILENCE_S", 0.5)
    monkeypatch.setattr(child.patience, "TIMES_THE_FIRST", 0.0)
    with pytest.raises(ModelError, match=r"said nothing for 0 s after [\d,]+ of 0 invokes and was ended"):
        call("sleep", {}, on_progress=lambda pid, _total: pids.append(pid))
    assert len(pids) == 1
    assert not is_alive(pids[0])


def test_a_child_that_falls_silent_is_ended_with_what_was_heard_last(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(child.patience, "SILENCE_S", 1.0)
    monkeypatch.setattr(child.patience, "TIMES_THE_FIRST", 0.0)
    with pytest.raises(ModelError, match=r"^the interpreter said nothing for 1 s after 2 of 9 invokes and was ended$"):
        call("fall_silent", {}, on_progress=lambda *heard: told.append(heard))
    assert told == [(0, 9), (1, 9), (2, 9)]


def test_a_child_that_does_not_begin_is_ended() -> None:
    with pytest.raises(ModelError, match=r"did not answer within 1\.5 s and was ended"):
        call("begin_late", {"before_s": 3600}, start_s=1.5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(number: signal.Signals, busy: bool, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), *(["busy"] if busy else [])],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        assert is_alive(orphan)
        parent.send_signal(number)
        parent.wait(HUNG_S)
        wait_for(lambda: not is_alive(orphan), "the end of the child")


@pytest.mark.parametrize("busy", [False, True])
def test_a_child_ends_with_its_parent_where_no_system_sees_to_it(busy: bool, tmp_path: Path) -> None:
    """By the pipe that its arguments came through."""
    program = [sys.executable, "-c", PARENT, str(tmp_path), *(["busy"] if busy else [])]
    environment = {**os.environ, "NO_SYSTEM": "1"}
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        parent.kill()
        parent.wait(HUNG_S)
        wait_for(lambda: not is_alive(orphan), "the end of the child")


def test_an_interruption_ends_the_child_too() -> None:
    pids: list[int] = []

    def interrupt(pid: int, _total: int) -> None:
        pids.append(pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call("sleep", {}, on_progress=interrupt)
    assert len(pids) == 1
    assert not is_alive(pids[0])


def test_a_finished_child_leaves_no_timer() -> None:
    before = threading.active_count()
    assert call("echo", {}, start_s=HUNG_S) == {}
    wait_for(lambda: threading.active_count() == before, "the end of the timer")


class TestRealTasks:
    """What the module itself can do."""

    @pytest.fixture
    def relu(self, tmp_path: Path) -> Path:
        path = tmp_path / "relu.tflite"
        path.write_bytes(make_bytes([int8(1, 4, zero_point=0), int8(1, 4, zero_point=0)], [Op("RELU", (0,), (1,))]))
        return path

    def test_invoke(self, relu: Path) -> None:
        assert call("invoke", {"path": str(relu), "runtime": "litert"}) is True

    def test_bench(self, relu: Path) -> None:
        told: list[tuple[int, int]] = []
        arguments = {
            "paths": {"a": str(relu), "b": str(relu)},
            "runtime": "litert",
            "threads": 1,
            "runs": 3,
            "warm_up_runs": 1,
        }
        result = child.TASKS["bench"](arguments, lambda done, total: told.append((done, total)))
        assert set(result) == {"a", "b"}
        assert result["a"]["runs"] == result["b"]["runs"] == 3
        assert result["a"]["ratio_to_first"] == 1.0
        assert list(dict.fromkeys(told)) == [(done, 6) for done in range(7)]

    def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"gone\.tflite: litert cannot run it"):
            call("invoke", {"path": str(tmp_path / "gone.tflite"), "runtime": "litert"})

    def test_an_unknown_runtime_is_an_error(self, relu: Path) -> None:
        with pytest.raises(UsageError, match="unknown runtime `abacus`"):
            call("invoke", {"path": str(relu), "runtime": "abacus"})

    def test_arena(self, relu: Path) -> None:
        pytest.importorskip("tflite_micro")
        figures = call("arena", {"path": str(relu), "arena_bytes": 1 << 20})
        assert figures["activation_bytes"] >= 8
        assert figures["arena_bytes"] == figures["activation_bytes"] + figures["persistent_bytes"]
