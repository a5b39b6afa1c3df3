"""The only module that prints. Results go to stdout, everything else to stderr; plain text where no terminal is.

Text from outside (paths, messages) is never read as rich markup, nor by the terminal as a command.
"""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from edgecompress.wording import one_line, printable

if TYPE_CHECKING:
    from rich.console import Console

    from edgecompress.errors import Problem


def stdout_console() -> Console:
    """Returns a rich console on stdout; without a terminal, or with NO_COLOR set, it writes no colours."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False)


def stderr_console() -> Console:
    """Returns a rich console on stderr, for progress and messages."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False)


def emit_json(document: Any) -> None:
    """Writes one JSON document to stdout (ASCII, so that it survives any locale).

    Raises:
        ResourceError: The document holds NaN or infinity, which JSON does not have.
    """
    from edgecompress.store.files import json_text

    print(json_text(document, sort_keys=False))  # noqa: T201 - printing is what this module is for


@contextlib.contextmanager
def nothing_else_on_stdout(as_json: bool) -> Iterator[None]:
    """Sends to stderr what anybody prints while inside, where stdout is meant for one JSON document."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)  # native code does not know of sys.stdout
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def line(text: str = "", style: str = "") -> None:
    """Writes one line of a result to stdout, styled on a terminal."""
    _write(sys.stdout, [(one_line(text), style)])


def document(text: str) -> None:
    """Writes a text of ours, which has lines, to stdout."""
    _write(sys.stdout, [(text, "")])


def parts(found: Sequence[tuple[str, str]]) -> None:
    """Writes one line of a result to stdout from pieces of (text, style), styled on a terminal.

    Where the terminal is too narrow, the last piece goes on below itself.
    """
    *before, (text, style) = [(one_line(text), style) for text, style in found]
    indent = sum(len(piece) for piece, _ in before)
    _write(sys.stdout, [*before, (_wrapped(" " * indent + text, indent)[indent:], style)])


def items(sentences: Iterable[str], style: str = "") -> None:
    """Writes a list to stdout, one sentence a line; on a terminal, long ones are broken between words."""
    for sentence in sentences:
        _write(sys.stdout, [(_wrapped(f"  - {one_line(sentence)}", 4), style)])


def _wrapped(text: str, indent: int) -> str:
    """Returns a text broken between words where the terminal on stdout ends; as it is where there is no terminal."""
    width = terminal_width()
    if width is None or len(text) <= width or indent >= width:
        return text
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def terminal_width() -> int | None:
    """Returns how many columns the terminal on stdout has, None where there is no terminal."""
    return stdout_console().width if _is_terminal(sys.stdout) else None


def note(text: str = "", style: str = "") -> None:
    """Writes one line that is no result (progress, advice) to stderr, styled on a terminal."""
    _in_order()
    _write(sys.stderr, [(one_line(text), style)])


def problem(found: Problem, *, to_stderr: bool = False) -> None:
    """Writes one problem of a recipe as `file:line: key: message (hint)`."""
    where = f"{found.file}:{found.line}: " if found.line else f"{found.file}: " if found.file else ""
    pieces = [(where, "bold"), (f"{found.key}: " if found.key else "", "cyan"), (found.message, "")]
    pieces.append((f" ({found.hint})" if found.hint else "", "dim"))
    _write(sys.stderr if to_stderr else sys.stdout, [(one_line(text), style) for text, style in pieces])


def error(message: str, problems: Sequence[Problem] = (), details: Sequence[str] = ()) -> None:
    """Writes why nothing came of it to stderr: the problems, one a line, then the message and its details."""
    _in_order()
    for found in problems:
        problem(found, to_stderr=True)
    _write(sys.stderr, [("error: ", "bold red"), ("\n".join(map(one_line, (message, *details))), "")])


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", right: Collection[str] = ()
) -> None:
    """Writes a table to stdout: drawn on a terminal, aligned columns elsewhere.

    Args:
        headers: The columns' names.
        rows: Cells in the headers' order; None is shown as `-`.
        title: A line above the table.
        right: Names of the columns that are set flush right (numbers).
    """
    cells = [["-" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    right = {one_line(name) for name in right}
    headers, title = [one_line(header) for header in headers], one_line(title)
    if _is_terminal(sys.stdout):
        from rich import box
        from rich.table import Table
        from rich.text import Text

        drawn = Table(
            title=Text(title, "bold") if title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for header in headers:
            drawn.add_column(Text(header), justify="right" if header in right else "left", overflow="fold")
        for row in cells:
            drawn.add_row(*(Text(cell) for cell in row))
        stdout_console().print(drawn)
        return
    if title:
        line(title)
    widths = [max(len(row[column]) for row in [list(headers), *cells]) for column in range(len(headers))]
    for row in [list(headers), *cells]:
        padded = (
            cell.rjust(width) if header in right else cell.ljust(width)
            for header, cell, width in zip(headers, row, widths, strict=True)
        )
        line("  ".join(padded).rstrip())


def _in_order() -> None:
    """Sends on what was written to stdout, so that a log that holds both streams has their lines in order."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # its last flush, at the end, is the one that counts
        sys.stdout.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _write(stream: TextIO | None, pieces: Sequence[tuple[str, str]]) -> None:
    pieces = [(printable(text), style) for text, style in pieces]
    if any(style for _, style in pieces) and _is_terminal(stream):
        from rich.console import Console
        from rich.text import Text

        Console(file=stream, highlight=False).print(Text.assemble(*pieces), soft_wrap=True)
        return
    print("".join(text for text, _ in pieces), file=stream)
