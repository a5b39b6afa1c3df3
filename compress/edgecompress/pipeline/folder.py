"""The folder of a run: made, held while the run is at work, and what is written there as it goes on."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from edgecompress.context import Event, Listener
from edgecompress.errors import ResourceError
from edgecompress.store.claims import EVENTS, LOG, Claim
from edgecompress.store.file_lock import BusyError, exclusive
from edgecompress.store.own_files import NOT_OURS, own_log
from edgecompress.wording import one_line


@contextlib.contextmanager
def alone(output: Path, names: Iterable[str], recipe: Path | None, *, force: bool) -> Iterator[Claim]:
    """Holds the run's folder, and gives what the run may write there.

    Args:
        output: The folder.
        names: All files that a run may leave there.
        recipe: The recipe's file, None where there is none.
        force: Whether files may be overwritten that no run has written.

    Raises:
        ResourceError: Another run is at work in it, or it holds files of others.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(output / ".lock"))
        except BusyError as error:
            raise ResourceError(
                f"{output} is in use: {error}. Wait until that run ends, or choose another folder with --output."
            ) from error
        yield Claim(output, names, recipe, force=force)


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
        events = os.fdopen(own_log(output / EVENTS, keep=False), "wb", buffering=0)
        log = os.fdopen(own_log(output / LOG, keep=True), "ab", buffering=0)
    except OSError as error:
        if NOT_OURS in str(error):
            raise ResourceError(f"cannot write {error.filename}: {error.strerror}.") from error
        raise ResourceError(refused.format(error.strerror or error)) from error
    with events, log:

        def record(event: Event) -> None:
            at = round(time.monotonic() - began, 3)
            line = json.dumps({"at_s": at, "kind": event.kind, "stage": event.stage, **event.data}, default=str)
            try:
                events.write(f"{line}\n".encode())
                if event.kind != "progress":
                    # One line an event, whatever names and messages from outside hold.
                    text = " ".join(f"{key}={one_line(str(value))}" for key, value in event.data.items())
                    moment = datetime.now(UTC).isoformat(timespec="seconds")
                    line = f"{moment} {event.stage or 'run'} {event.kind} {text}\n"
                    log.write(line.encode("utf-8", "backslashreplace"))
            except OSError as error:
                raise ResourceError(refused.format(error.strerror or error)) from error

        yield record
