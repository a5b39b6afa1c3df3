"""Runs interpreters in a child process: a file from outside can crash native code, which must not take us with it.

`call` starts `python -m edgecompress.tflite.runtime.child TASK`. Arguments go in as JSON on stdin; out come lines of
JSON: any number of `{"progress": [done, total]}`, then one `{"result": ...}` or `{"error": CLASS, "message": ...}`.
What native code writes to the terminal ends in a file that only a failure looks at.
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
from edgecompress.tflite.runtime import private_env

Progress = Callable[[int, int], None]
_ERRORS: dict[str, type[EdgecompressError]] = {kind.__name__: kind for kind in (ModelError, ResourceError, UsageError)}
#: Lines of a child's own output that a message about its failure quotes.
QUOTED_LINES = 3


def call(
    task: str,
    arguments: dict[str, Any],
    *,
    timeout_s: float | None = None,
    start_s: float | None = None,
    on_progress: Progress | None = None,
    runtime: str | None = None,
) -> Any:
    """Returns what a task of `TASKS` gives, run in a child process.

    Args:
        task: Its name.
        arguments: Plain JSON values.
        timeout_s: The child is ended after this time; None: never.
        start_s: The child is ended where it has told no progress by then; None: never.
        on_progress: Told how far the task is.
        runtime: The runtime the task uses, where it may need an environment of its own.

    Raises:
        ResourceError: That environment is not there.
        ModelError: The child crashed or did not answer in time, or the task says so.
        EdgecompressError: What else the task raised.
        RuntimeError: A bug in the task; the message holds the child's traceback.
    """
    python, search = sys.executable, [entry or str(Path.cwd()) for entry in sys.path]
    if runtime == "tflite-runtime":
        python, search = private_env.child_environment()
    with tempfile.TemporaryFile() as noise:
        child = subprocess.Popen(  # noqa: S603 - our own module, with the name of a task of ours
            [python, "-P", "-m", "edgecompress.tflite.runtime.child", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        )
        expired = threading.Event()
        limits = [threading.Timer(limit, _expire, (child, expired)) for limit in (timeout_s, start_s) if limit]
        for timer in limits:
            timer.start()

        def progress(done: int, total: int) -> None:
            if start_s is not None:
                limits[-1].cancel()
            if on_progress is not None:
                on_progress(done, total)

        try:
            answer = _converse(child, arguments, progress)
            child.wait()
        finally:  # also on Ctrl-C: nothing goes on without us
            for timer in limits:
                timer.cancel()
            child.kill()
            child.wait()
        if expired.is_set():
            raise ModelError(f"the interpreter did not answer within {timeout_s or start_s:g} s and was ended")
        if "result" in answer:
            return answer["result"]
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"])
        _raise_crash(child.returncode, noise)
        return None


def _expire(child: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
    child.kill()


def _converse(child: subprocess.Popen[bytes], arguments: dict[str, Any], on_progress: Progress) -> dict[str, Any]:
    """Hands the arguments over and returns the last line, {} where the child ended without one."""
    assert child.stdin is not None  # noqa: S101 - both are pipes
    assert child.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError), child.stdin as stream:  # it may be dead already
        stream.write(json.dumps(arguments).encode())
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
    noise.seek(0)
    output = noise.read().decode("utf-8", "replace")
    if code > 0:  # Python itself ended the child: a bug of ours
        raise RuntimeError(f"the child process failed with exit code {code}:\n{output}")
    lines = [line.strip() for line in output.splitlines() if line.strip()][-QUOTED_LINES:]
    said = f" Its last words: {' / '.join(lines)}" if lines else ""
    name = signal.Signals(-code).name if code else "no answer"
    raise ModelError(f"the interpreter crashed ({name}).{said}")


def _bench(arguments: dict[str, Any], on_progress: Progress) -> Any:
    from dataclasses import asdict

    from edgecompress.tflite.runtime.latency import measure

    paths = {label: Path(path) for label, path in arguments.pop("paths").items()}
    measured = measure(paths, **arguments, on_progress=on_progress)
    return {label: asdict(latency) for label, latency in measured.items()}


def _invoke(arguments: dict[str, Any], _on_progress: Progress) -> Any:
    from edgecompress.tflite.runtime.latency import find_runtime

    session = find_runtime(arguments["runtime"]).session(Path(arguments["path"]))
    session.fill(seed=0)
    session.invoke()
    return True


def _arena(arguments: dict[str, Any], _on_progress: Progress) -> Any:
    from dataclasses import asdict

    from edgecompress.tflite.runtime.arena import measure_arena

    return asdict(measure_arena(Path(arguments["path"]), arguments["arena_bytes"]))


def _outputs(arguments: dict[str, Any], _on_progress: Progress) -> Any:
    import numpy as np

    from edgecompress.tflite.runtime.latency import find_runtime

    session = find_runtime(arguments["runtime"]).session(Path(arguments["path"]), arguments["threads"])
    np.save(arguments["outputs"], session.run(np.load(arguments["inputs"], allow_pickle=False)), allow_pickle=False)
    return {"scale": session.output.scale if session.output.quantized else None}


TASKS: dict[str, Callable[[dict[str, Any], Progress], Any]] = {
    "arena": _arena,
    "bench": _bench,
    "invoke": _invoke,
    "outputs": _outputs,
}


def main(task: str) -> int:
    """Runs one task in this process, which is the child, and answers on what was its stdout."""
    # Native code writes to descriptors 1 and 2: both become the parent's file; the answer gets a descriptor of its own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit_memory()

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        result = TASKS[task](json.load(sys.stdin), lambda done, total: answer({"progress": [done, total]}))
    except (ModelError, ResourceError, UsageError) as error:
        kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
        answer({"error": kind, "message": str(error)})
    except MemoryError:
        answer({"error": "ModelError", "message": "the interpreter ran out of memory"})
    else:
        answer({"result": result})
    return 0


#: Address space an interpreter may always take; libraries reserve more than they use.
LEAST_ADDRESS_SPACE = 8 * 1024**3


def _limit_memory() -> None:
    """Caps the address space at this machine's memory: a damaged file may ask for any amount."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    total = max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), LEAST_ADDRESS_SPACE)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = total if hard == resource.RLIM_INFINITY else min(total, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
