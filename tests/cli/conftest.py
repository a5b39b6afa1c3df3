"""A terminal to write to, and folders as runs leave them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from edgecompress.report import document
from edgecompress_cli import main
from tests.unit.report import sample


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="session", autouse=True)
def _program_made_once() -> Iterator[None]:
    """Typer makes the whole program anew at each call, which takes longer than most commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "app", get_command(main.app))
        yield


@pytest.fixture
def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Puts a terminal of 80 columns on stdout and stderr when called; pytest sets its own before each phase."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")

    def open_now() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return open_now


@pytest.fixture
def write_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the report of a finished run into a folder of the current one; names and what differs may be given."""
    monkeypatch.chdir(tmp_path)
    # Drawing takes longer than all the rest, and no command looks at it.
    monkeypatch.setattr(document, "picture", lambda _report: b"\x89PNG")

    def write(name: str = "run", asked: Any = None, **changes: Any) -> Path:
        document.write_report(Path(name), sample.report(asked, **changes))
        return Path(name)

    return write
