"""What is printed with and without a terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable

import pytest

from edgecompress.errors import Problem, ResourceError
from edgecompress_cli import render
from tests.cli.conftest import Terminal


def test_plain_table_has_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("model", "size"), [("a", 5), ("[bold]b", None)], title="Sizes", right=("size",))
    assert capsys.readouterr().out == "Sizes\nmodel    size\na           5\n[bold]b     -\n"


def test_table_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("model", "size"), [])
    assert capsys.readouterr().out == "model  size\n"


def test_table_on_a_terminal_is_drawn_and_takes_text_as_it_is(open_terminal: Callable[[], Terminal]) -> None:
    terminal = open_terminal()
    render.table(("model", "size"), [("[bold]b", 5)], title="Sizes [red]", right=("size",))
    text = terminal.getvalue()
    assert "[bold]b" in text
    assert "Sizes [red]" in text
    assert "━" in text or "─" in text


def test_styles_are_for_terminals_only(open_terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal()
    render.line("fine [x]", style="green")
    assert terminal.getvalue() == "\x1b[32mfine [x]\x1b[0m\n"
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stdout", plain)
    render.line("fine [x]", style="green")
    assert plain.getvalue() == "fine [x]\n"


def test_no_color_is_respected(open_terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    render.line("fine", style="green")
    assert terminal.getvalue() == "fine\n"


def test_long_lines_are_not_wrapped(open_terminal: Callable[[], Terminal]) -> None:
    terminal = open_terminal()
    render.error("x" * 200)
    assert "x" * 200 in terminal.getvalue()


def test_notes_and_errors_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    render.note("by the way")
    render.error("no", [Problem("bad", "key", "f", 2, "mend"), Problem("worse")])
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "by the way\nf:2: key: bad (mend)\nworse\nerror: no\n"


def test_json_is_ascii_and_refuses_nan(capsys: pytest.CaptureFixture[str]) -> None:
    render.emit_json({"name": "Müller"})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"name": "Müller"}
    with pytest.raises(ResourceError, match="the result is no finite number"):
        render.emit_json(float("nan"))


def test_consoles_write_to_the_streams_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    render.stdout_console().print("out")
    render.stderr_console().print("err")
    assert capsys.readouterr() == ("out\n", "err\n")


def test_streams_that_are_closed_or_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    render.line("nobody hears", style="bold")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(ValueError, match="closed file"):
        render.line("nobody hears", style="bold")


EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc\roverwritten\udc80"


@pytest.mark.parametrize("terminal", [False, True])
def test_text_from_outside_commands_no_terminal(
    terminal: bool, open_terminal: Callable[[], Terminal], capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_terminal() if terminal else None
    render.table([EVIL], [[EVIL]], title=EVIL)
    render.line(EVIL, "bold")
    render.items([EVIL])
    render.problem(Problem(EVIL, EVIL, EVIL, 1, EVIL))
    render.note(EVIL)
    render.error(EVIL, [Problem(EVIL)])
    shown = capsys.readouterr()
    text = shown.out + shown.err if opened is None else opened.getvalue()
    assert r"\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc\roverwritten\udc80" in text
    assert not set(text) & set("\x07\x9b\r\u202e\udc80")
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text


def test_names_from_outside_make_no_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\nerror: b\rc\u2028d\x85e\x0bf\x1cg"
    shown = r"a\nerror: b\rc\u2028d\x85e\x0bf\x1cg"
    render.line(name)
    render.note(name)
    render.parts([(name, ""), (name, "")])
    render.items([name])
    render.table([name], [[name]], title=name)
    render.error(name, [Problem(name, name, name, 3, name)], ["  " + name])
    out, err = capsys.readouterr()
    assert out.splitlines() == [shown, shown * 2, f"  - {shown}", shown, shown, shown]
    problem = f"{shown}:3: {shown}: {shown} ({shown})"
    assert err.splitlines() == [shown, problem, f"error: {shown}", f"  {shown}"]
