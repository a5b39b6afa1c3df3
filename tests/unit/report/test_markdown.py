"""What leaves the tool as Markdown: names from outside are shown as they are, and nothing is made of them."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from edgecompress.report.markdown import escaped, table
from edgecompress.report.words.tables import Table

#: What strangers may call a class, a layer or a file.
ODD = (
    "@torvalds", "(@org/team),", "https://evil.example/x(y)", "see www.evil.example.", "GH-1", "#1", "x#1",
    "owner/repo#12",
    "owner/repo@deadbeef", "deadbeef1234567", "a" * 40, "a|@b|c", "`@x`", "``@x``", "a`b#1`c", "@x`y", "`#1",
    "me@x.org",
    "$x$ and $y z$", "&copy; &#64;x &amp;", "1. FC", "2) x", "- x", "+ x", "= x", "---", "===", "# x", "> x", "~~x~~",
    ":smile:", "![a](https://x/y.png)", "<img src=x onerror=y>", "<!-- x", "\\", "C:\\x@y\\", "\\@x", "\\|", "**@b**",
    "mailto:a", "ftp://a", "!5", "[x]: y", "| a | b |", "_x_", "GHSA-aaaa-bbbb-cccc", "x\n\n# y", "FIXES #3", "*",
    "* x",
)  # fmt: skip
#: What GitHub makes a link or a picture of, in the text of a page outside of code.
LINKED = re.compile(r"@\w|#\d|://|www\.|gh-\d|ghsa-|:[a-z]+:|\$|(?<!\w)[\da-f]{7,40}(?!\w)|\w:\w", re.IGNORECASE)


def shown(text: str) -> tuple[str, str]:

    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = [one for token in tokens if token.type == "inline" for one in token.children or ()]
    assert {one.type for one in inline} <= {"text", "code_inline", "text_special"}, text
    plain = "\0".join(one.content for one in inline if one.type != "code_inline")
    return "".join(one.content for one in inline), plain


@pytest.mark.parametrize("name", ODD)
def test_names_from_outside_neither_link_nor_mark_anything(name: str) -> None:
    whole = " ".join(name.split())
    for written, before, behind in (
        (escaped(name), "", ""), (f"- {escaped(name)}", "", ""), (f"# {escaped(name)}", "", ""),
        (escaped(f"{name}: 5"), "", ": 5"), (escaped(f"layer {name}, then"), "layer ", ", then"),
    ):  # fmt: skip
        text, plain = shown(written)
        assert text == before + whole + behind, written
        assert not LINKED.search(plain), written
    cells = table(Table(("Name", name), ((name, "5"), ("6", name))))
    tokens = MarkdownIt("commonmark").enable("table").parse(cells)
    # Each cell once more, as a line; the word in front keeps it from beginning a list there.
    found = [shown("cell " + token.content.replace("|", r"\|")) for token in tokens if token.type == "inline"]
    assert [text for text, _ in found] == [f"cell {text}" for text in ("Name", whole, whole, "5", "6", whole)]
    assert not any(LINKED.search(plain) for _, plain in found)


def test_what_the_report_says_itself_stays_readable() -> None:
    for text in ("-0.35 points", "2026-12-01T02:53:09+00:00", "12 won, 47 lost (p < 0)", "1,234,567", "20260101"):
        assert escaped(text).replace("\\", "") == text
    assert escaped("0032df035591") == "`0032df035591`"
