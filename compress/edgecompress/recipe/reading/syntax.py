"""What is wrong with a text that is not YAML, in plain words."""

from __future__ import annotations

import yaml
from yaml.reader import ReaderError

from edgecompress.errors import Problem

#: Part of PyYAML's message -> what to say, and how to mend it. The first match wins.
EXPLANATIONS: tuple[tuple[str, str, str], ...] = (
    ("character '\\t'", "a tab stands here, and YAML indents with spaces only", "replace tabs by spaces"),
    (
        "unknown escape character",
        "a backslash in double quotes begins an escape, and this is none",
        "use single quotes, or `/` between folders",
    ),
    (
        "mapping values are not allowed",
        "a `:` stands where none can",
        "check the indentation, or quote text that holds `: `",
    ),
    (
        "expected <block end>",
        "the indentation does not fit the lines above",
        "start keys of one block in the same column",
    ),
    ("could not find expected ':'", "a key without `:`", "write `key: value`"),
    ("expected ',' or", "a list or block in brackets is not closed, or lacks a comma", "check `[` `]` `{` `}`"),
    ("end of stream", "a quote is opened and never closed", "close it, or remove it"),
    (
        "expected the node content",
        "a list or block in brackets is not closed, or lacks a value",
        "check `[` `]` `{` `}`",
    ),
    (
        "found undefined alias",
        "an alias (`*name`) without its anchor",
        "define it with &name first, or quote text that starts with `*`",
    ),
    (
        "sequence entries are not allowed",
        "a list item (`-`) stands where none can",
        "begin the list on a line of its own",
    ),
    ("expected a single document", "a second document begins here (`---`)", "keep one recipe in a file"),
    ("'<document start>'", "the recipe's block has ended above this line", "check the indentation and the brackets"),
    ("duplicate anchor", "this anchor exists already", "rename one of the two"),
    ("cannot start any token", "a character that cannot begin a value", "put the text in quotes"),
    ("could not determine a constructor", "tags are not allowed", "a recipe is data only"),
)

#: Messages that are about something left open: the place where it was opened helps, not the one where the file ends.
OPENED = ("end of stream", "expected ',' or")


def syntax_problem(error: yaml.MarkedYAMLError | ReaderError, text: str, file: str) -> Problem:
    """Returns a problem that says where the text stops being YAML, and why."""
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(
            "not a text file: it holds control characters", "", file, line, "save the recipe as plain UTF-8 text"
        )
    said = f"{error.context or ''} {error.problem or ''}"
    mark = error.problem_mark or error.context_mark
    if any(part in said for part in OPENED) and error.context_mark is not None:
        mark = error.context_mark
    line = mark.line + 1 if mark else 0
    for part, message, hint in EXPLANATIONS:
        if part in said:
            return Problem(message, "", file, line, hint)
    return Problem(f"not valid YAML: {said.strip()}", "", file, line)
