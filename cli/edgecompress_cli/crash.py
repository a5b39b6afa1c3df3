"""Where the traceback of an internal error is kept: the run's log once there is one, else a file of its own."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

_logs: list[Path] = []


def log_crashes_to(path: Path) -> None:
    """Sends tracebacks of this process to a log file from now on (they are added at its end)."""
    _logs[:] = [path]


def record(error: BaseException) -> str:
    """Writes an error's traceback to the log and returns the file's name, or why there is none."""
    text = "".join(traceback.format_exception(error))
    for path in _logs:
        try:
            with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(text)
        except OSError:
            continue  # the run's folder is gone or full: the temporary folder is the next best place
        return str(path)
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="edgecompress-", suffix=".log", delete=False
        ) as own:
            own.write(text)
    except OSError as failure:
        return f"nowhere ({failure.strerror or failure})"
    return own.name
