"""Runs interpreters in a child process: a file from outside can crash native code, which must not take us with it.

`call` starts `python -m edgecompress.tflite.runtime.child TASK PARENT`. Arguments go in as a line of JSON on stdin,
which stays open: the child ends when it closes. Out come lines of JSON: any number of `{"progress": [done, total]}`,
then one `{"result": ...}` or `{"error": CLASS, "message": ...}`. What native code writes to the terminal ends in a file
that only a failure looks at.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from edgecompress.errors import EdgecompressError, ModelError, ResourceError, UsageError
from edgecompress.machine import cores
from edgecompress.processes.lifeline import end_when_closed, end_with
from edgecompress.store.seals import without_key
from edgecompress.tflite.runtime import memory, patience, private_env, tasks

Progress = Callable[[int, int], None]
_ERRORS: dict[str, type[EdgecompressError]] = {kind.__name__: kind for kind in (ModelError, ResourceError, UsageError)}
#: Lines of a child's own output that a message about its failure quotes, and how much of that is read.
QUOTED_LINES, READ_BYTES = 3, 65_536
#: How often a child's patience is looked at.
LOOK_S = 0.5


def call(
    task: str,
    arguments: dict[str, Any],
    *,
    start_s: float | None = None,
    on_progress: Progress | None = None,
    runtime: str | None = None,
    memory_bytes: int | None = None,
) -> Any:
    """Returns what a task of `TASKS` gives, run in a child process.

    The child is ended where it falls silent (see `patience`), and with this process, however that ends.

    Args:
        task: Its name.
        arguments: Plain JSON values.
        start_s: The child is ended where it has told nothing by then; None: START_S.
        on_progress: Told how far the task is.
        runtime: The runtime the task uses, where it may need an environment of its own.
        memory_bytes: What the interpreter may take beside its libraries; None: what the machine has.

    Raises:
        ResourceError: That environment is not there.
        ModelError: The child crashed, or fell silent, or the task says so.
        EdgecompressError: What else the task raised.
        RuntimeError: A bug in the task; the message holds the child's traceback.
    """
    python, search = sys.executable, [entry or str(Path.cwd()) for entry in sys.path]
    if runtime == "tflite-runtime":
        python, search = private_env.child_environment()
    waiting = patience.Patience(patience.START_S if start_s is None else start_s)
    with tempfile.TemporaryFile() as noise:
        child = subprocess.Popen(  # noqa: S603 - our own module, with the name of a task of ours
            [python, "-P", "-m", "edgecompress.tflite.runtime.child", task, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            env={**without_key(os.environ), "PYTHONPATH": os.pathsep.join(search)},
        )
        done = threading.Event()
        why: list[str] = []
        watch = threading.Thread(target=_watch, args=(child, waiting, done, why), daemon=True)

        def progress(count: int, total: int) -> None:
            waiting.heard(count, total)
            if on_progress is not None:
                on_progress(count, total)

        try:
            watch.start()
            answer = _converse(child, {"arguments": arguments, "memory_bytes": memory_bytes}, progress)
            child.wait()
        finally:  # also on Ctrl-C: nothing goes on without us
            done.set()
            child.kill()
            child.wait()
            if watch.ident is not None:
                watch.join()
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
        if why:
            raise ModelError(f"the interpreter {why[0]}")
        if "result" in answer:
            return answer["result"]
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"])
        _raise_crash(child.returncode, noise)
        return None


def _watch(child: subprocess.Popen[bytes], waiting: patience.Patience, done: threading.Event, why: list[str]) -> None:
    """Ends a child that is silent for too long, and leaves the reason in `why`."""
    while not done.wait(LOOK_S):
        reason = waiting.look()
        if reason:
            why.append(reason)
            child.kill()
            return


def _converse(child: subprocess.Popen[bytes], arguments: dict[str, Any], on_progress: Progress) -> dict[str, Any]:
    """Hands the arguments over and returns the last line, {} where the child ended without one."""
    assert child.stdin is not None  # noqa: S101 - both are pipes
    assert child.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError):  # it may be dead already
        child.stdin.write(json.dumps(arguments).encode() + b"\n")
        child.stdin.flush()
    with child.stdout as stream:
        for line in stream:
            try:
                message: dict[str, Any] = json.loads(line)
            except ValueError:  # cut off by its end
                return {}
            if "progress" not in message:
                return message
            on_progress(*message["progress"])
    return {}


def _raise_crash(code: int, noise: IO[bytes]) -> None:
    noise.seek(max(noise.seek(0, os.SEEK_END) - READ_BYTES, 0))
    output = noise.read().decode("utf-8", "replace")
    if code > 0:  # Python itself ended the child: a bug of ours
        raise RuntimeError(f"the child process failed with exit code {code}:\n{output}")
    lines = [line.strip() for line in output.splitlines() if line.strip()][-QUOTED_LINES:]
    said = f" Its last words: {' / '.join(lines)}" if lines else ""
    name = signal.Signals(-code).name if code else "no answer"
    raise ModelError(f"the interpreter crashed ({name}).{said}")


TASKS = tasks.TASKS


def main(task: str, parent: int) -> int:
    """Runs one task in this process, which is the child, and answers on what was its stdout."""
    end_with(parent)
    # Native code writes to descriptors 1 and 2: both become the parent's file; the answer gets a descriptor of its own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    memory.limit_address_space()
    given = json.loads(sys.stdin.buffer.readline())
    end_when_closed(sys.stdin.fileno())
    if given["memory_bytes"] is not None:
        memory.allow(given["memory_bytes"])

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def progress(done: int, total: int) -> None:
        _end_at_last()
        answer({"progress": [done, total]})

    _end_at_last()
    try:
        result = TASKS[task](given["arguments"], progress)
    except (ModelError, ResourceError, UsageError) as error:
        kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
        answer({"error": kind, "message": str(error)})
    except MemoryError:
        answer({"error": "ModelError", "message": memory.ran_out()})
    else:
        answer({"result": result})
    return 0


#: An orphan that no system ends with its parent, in native code that lets no other thread work, ends after so much time
#: of all processors without a word.
LAST_S = 3600


def _end_at_last() -> None:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
        signal.setitimer(signal.ITIMER_PROF, LAST_S * cores())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
