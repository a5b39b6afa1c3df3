"""Where the traceback of an internal error is kept: the run's log once there is one, else a file of its own."""

from __future__ import annotations

import os
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from edgecompress.errors import ResourceError
from edgecompress.store.claims import is_log
from edgecompress.store.own_files import own_log
from edgecompress.wording import printable

_logs: list[Path] = []


def log_crashes_to(path: Path) -> None:
    """Sends tracebacks of this process to a log file from now on (they are added at its end)."""
    _logs[:] = [path]


def record(error: BaseException) -> str:
    """Writes an error's traceback to the log and returns the file's name, or why there is none."""
    # Indented, so that no message from outside begins a line of the log.
    lines = "".join(traceback.format_exception(error)).splitlines()
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    text = "\n".join([f"{moment} run internal-error ", *(f"  {printable(line)}" for line in lines), ""])
    for path in _logs:
        if os.path.lexists(path) and not is_log(path):
            continue  # somebody else's
        try:
            with os.fdopen(own_log(path, keep=True), "a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(text)
        except (OSError, ResourceError):
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
