"""The folder of a run: made, held while the run is at work, and what is written there as it goes on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edgecompress.context import Event, Listener
from edgecompress.errors import ResourceError
from edgecompress.store.file_lock import BusyError, exclusive
from edgecompress.store.files import remove_partial
from edgecompress.wording import printable


@contextlib.contextmanager
def alone(output: Path) -> Iterator[None]:
    """Holds the run's folder.

    Raises:
        ResourceError: Another run is at work in it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(output / ".lock"))
        except BusyError as error:
            raise ResourceError(
                f"{output} is in use: {error}. Wait until that run ends, or choose another folder with --output."
            ) from error
        remove_partial(output)
        yield


def prepare(output: Path) -> None:
    """Makes the folder.

    Raises:
        ResourceError: The file system refused.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot create the output folder {output}: {error.strerror or error}. Choose another with --output."
        ) from error


@contextlib.contextmanager
def recorder(output: Path) -> Iterator[Listener]:
    """Gives a listener that writes events.jsonl (all events) and run.log (all but progress)."""
    began = time.monotonic()
    refused = f"cannot write in {output}: {{}}. Free space, or choose another folder with --output."
    try:
        # Without a buffer: what could not be written must not come up again when the file is closed.
        events = (output / "events.jsonl").open("wb", buffering=0)
        log = (output / "run.log").open("ab", buffering=0)
    except OSError as error:
        raise ResourceError(refused.format(error.strerror or error)) from error
    with events, log:

        def record(event: Event) -> None:
            at = round(time.monotonic() - began, 3)
            line = json.dumps({"at_s": at, "kind": event.kind, "stage": event.stage, **event.data}, default=str)
            try:
                events.write(f"{line}\n".encode())
                if event.kind != "progress":
                    text = " ".join(f"{key}={value}" for key, value in event.data.items())
                    moment = datetime.now(UTC).isoformat(timespec="seconds")
                    line = f"{moment} {event.stage or 'run'} {event.kind} {printable(text)}\n"
                    log.write(line.encode("utf-8", "backslashreplace"))
            except OSError as error:
                raise ResourceError(refused.format(error.strerror or error)) from error

        yield record
