"""Pieces of report.html: sections, tables, lists. Text is escaped here and nowhere forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from edgecompress.report.html.svg import esc
from edgecompress.report.words.tables import Table


def section(title: str, body: str, style: str = "") -> str:
    """Returns a titled block; `body` is HTML."""
    named = f' class="{style}"' if style else ""
    return f"<section{named}><h2>{esc(title)}</h2>\n{body}</section>"


def bullets(sentences: Iterable[str]) -> str:
    """Returns a list of plain sentences."""
    return "<ul>" + "".join(f"<li>{esc(sentence)}</li>" for sentence in sentences) + "</ul>"


def cell(text: str, *, right: bool, before: str = "") -> str:
    """Returns a table cell; `before` is HTML put before the text."""
    if not right:
        return f"<td>{before}{esc(text)}</td>"
    # What stands in brackets behind a figure goes below it: beside it, it pushed the last columns off the page.
    figure, bracket, rest = text.partition(" (")
    beside = f' <span class="below">({esc(rest)}</span>' if bracket else ""
    return f'<td class="right">{before}{esc(figure)}{beside}</td>'


def table(found: Table, body: str | None = None) -> str:
    """Returns a table that scrolls sideways where the page is narrow; `body` is HTML that replaces the rows."""
    head = "".join(
        f'<th class="right">{esc(name)}</th>' if name in found.right else f"<th>{esc(name)}</th>"
        for name in found.headers
    )
    if body is None:
        body = "".join(
            "<tr>"
            + "".join(cell(text, right=name in found.right) for name, text in zip(found.headers, row, strict=True))
            + "</tr>"
            for row in found.rows
        )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str]], *, code: bool = False) -> str:
    """Returns a table of two columns without a head; `code` sets the second one as code."""
    body = "".join(
        f"<tr><td>{esc(name)}</td><td>{f'<code>{esc(value)}</code>' if code else esc(value)}</td></tr>"
        for name, value in rows
    )
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def details(summary: str, body: str) -> str:
    """Returns a block that opens on a click; `body` is HTML."""
    return f"<details><summary>{esc(summary)}</summary>\n{body}</details>"
