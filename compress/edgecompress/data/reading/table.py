"""Rows and columns of a file, whatever its format, and the rows that cannot be used."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.data.raw import LISTED
from edgecompress.data.reading.folders import normal
from edgecompress.errors import DataError
from edgecompress.wording import counted, verb

#: Columns named in a message before it says how many more there are, characters of each.
COLUMNS_LISTED, NAME_SHOWN = 12, 60
#: Rows that cannot be used before the others are not looked at: a message for each of millions would fill the memory.
MOST_BAD = 10_000
#: Names that one which is not there is compared with.
MOST_COMPARED = 1_000


class _Missing:
    """What a row has where it lacks a key."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


@dataclass
class Table:
    """One file's rows.

    Attributes:
        path: The file.
        names: Columns or keys, in order.
        columns: Cells by column: text in a `csv`, any JSON value or MISSING in a `jsonl`.
        lines: Line in the file at which each row begins.
        bad: Line -> what is wrong with the row that begins there; the first finding counts.
        noun: What a column is called: column or key.
        text: The column that the file itself says holds text.
        label: The column that the file itself says is the class.
        left_out: Columns that the file itself says are no features.
        remark: What was found out about the format, in words, for messages.
        notes: What was left out, in sentences.
    """

    path: Path
    names: tuple[str, ...]
    columns: dict[str, list[Any]]
    lines: list[int]
    bad: dict[int, str] = field(default_factory=dict)
    noun: str = "column"
    text: str | None = None
    label: str | None = None
    left_out: tuple[str, ...] = ()
    remark: str = ""
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def blame(self, row: int, what: str) -> None:
        """Notes what is wrong with a row.

        Raises:
            DataError: So many cannot be used that the rest need not be looked at.
        """
        self.bad.setdefault(self.lines[row], what)
        if len(self.bad) >= MOST_BAD:
            self.check()

    def check(self) -> None:
        """Lets a table pass that has rows, all of which can be used.

        Raises:
            DataError: It has none, or some cannot be used; they are counted, and the first few are listed.
        """
        if self.bad:
            raise bad_lines(self.path, self.bad.items(), self.remark)
        if not self.lines:
            raise DataError(f"{self.path}: there are no rows{f' ({self.remark})' if self.remark else ''}.")

    def column(self, key: str, asked: str | None, *, default: str, marked: str | None = None) -> str:
        """Returns the name of the column for a purpose.

        Args:
            key: What the recipe calls it: `label`.
            asked: The recipe's own choice.
            default: What it is called if the recipe says nothing; small and capital letters do not differ then.
            marked: What the file itself says.

        Raises:
            DataError: There is no such column.
        """
        if asked is not None:
            asked = normal(asked)
            if asked in self.columns:  # a table may have thousands
                return asked
            near = difflib.get_close_matches(asked, self.names[:MOST_COMPARED], n=1)
            hint = f" Did you mean `{short(near[0])}`?" if near else ""
            raise DataError(f"data.{key}: {self.path} has no {self.noun} `{asked}`.{hint} {self._has()}")
        for name in (default, *(name for name in self.names if name.lower() == default)):
            if name in self.names:
                return name
        if marked is not None:
            return marked
        raise DataError(
            f"{self.path} has no {self.noun} called `{default}`. Name the one that holds it with data.{key}. "
            f"{self._has()}"
        )

    def _has(self) -> str:
        more = len(self.names) - COLUMNS_LISTED
        listed = ", ".join(map(short, self.names[:COLUMNS_LISTED])) + (f" and {more:,} more" if more > 0 else "")
        return f"It has: {listed or 'none'}{f' ({self.remark})' if self.remark else ''}."


def bad_lines(path: Path, found: Iterable[tuple[int, str]], remark: str = "") -> DataError:
    """Returns the error for lines that cannot be used: how many, and the first few with file and line."""
    listed = sorted(found)
    count = len(listed)
    least = " or more" if count >= MOST_BAD else ""
    head = f"{path}: {counted(count, 'row')}{least} cannot be used{f' ({remark})' if remark else ''}:"
    shown = [f"  {path}:{line}: {what}" for line, what in listed[:LISTED]]
    more = [f"  and {count - LISTED:,} more"] if count > LISTED else []
    return DataError(head, [*shown, *more, f"Mend or remove {verb(count, 'it', 'them')}."])


def shown(value: Any, longest: int = 40) -> str:
    """Returns a cell for a message, cut if it is long; what it holds is looked at no further than is shown."""
    bounded = reprlib.Repr()
    bounded.maxlist = bounded.maxdict = bounded.maxtuple = longest // 2
    bounded.maxstring = bounded.maxlong = bounded.maxother = 2 * longest
    text = repr(value[: 2 * longest]) if isinstance(value, str) else bounded.repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def short(name: str) -> str:
    """Returns a column's name for a message, cut if it is long."""
    return name if len(name) <= NAME_SHOWN else f"{name[: NAME_SHOWN - 3]}..."


def rows_to_columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    """Returns the cells by column; of two columns of one name the first counts."""
    columns: dict[str, list[Any]] = {}
    for place, name in enumerate(names):
        if name not in columns:
            columns[name] = [row[place] for row in rows]
    return columns
