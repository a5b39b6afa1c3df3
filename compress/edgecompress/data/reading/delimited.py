"""Tables as text: `.csv`, `.tsv` and Orange's `.tab`, their delimiter and header found out."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import not_
from pathlib import Path

from edgecompress.data.limits import MOST_COLUMNS, check_memory
from edgecompress.data.reading.folders import GZ, ending, normal
from edgecompress.data.reading.table import MOST_BAD, Table, rows_to_columns, shown
from edgecompress.data.reading.text_reading import read_text
from edgecompress.errors import DataError
from edgecompress.wording import counted, verb

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
#: What a file of one column is split at: nothing that is in it.
NO_DELIMITER = "\x1f"
QUOTING = {True: csv.QUOTE_MINIMAL, False: csv.QUOTE_NONE}
TAB_SUFFIXES = (".tsv", ".tab")
#: Rows and characters that delimiter and header are found out from.
SAMPLE_ROWS, SAMPLE_CHARACTERS = 200, 1_000_000
#: A line with its end, as csv takes them: also where it is a carriage return alone.
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
#: Cells of different content that are kept once, however often they are met.
KEPT_ONCE = 65_536
#: Bytes of a cell: what a row and a column point to it by, and a text of its own where it is not kept once.
POINTERS, TEXT = 16, 56
REMEDY = "Unpack it, use a part of it, or give the numbers as arrays (source: npz)."
#: Fields of a row that a message may show.
SHOWN_FIELDS = 50
#: Of so many rows one is looked at for cells that are not kept once.
EACH = 16
#: Orange's header, https://orange3.readthedocs.io/projects/orange-data-mining-library/en/latest/reference/data.io.html:
#: names; types; flags.
ORANGE_TYPES = frozenset({
    "continuous", "c", "numeric", "n", "discrete", "d", "categorical", "string", "s", "text", "time", "t", "basket",
})  # fmt: skip
ORANGE_FLAGS = frozenset({"", "class", "c", "meta", "m", "ignore", "i", "weight", "w"})
ORANGE_STRINGS = ("string", "s", "text")
ORANGE_ROWS = 3


@dataclass
class Parsed:
    """The records of a file.

    Attributes:
        rows: Their fields; blank lines are left out.
        lines: The line each one begins at.
        bad: Line -> why a record could not be split; after MOST_BAD of them nothing is read any more.
        cost: Bytes that the fields take in memory, about.
    """

    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    cost: int = 0


def read_delimited(path: Path, wanted: Sequence[str]) -> Table:
    """Returns the table in a file, rows of another number of fields among its bad ones.

    Args:
        path: The file.
        wanted: Columns that the recipe names, and usual names: a first row that holds one of them is a header.

    Raises:
        DataError: It cannot be read, is not UTF-8, or has two columns of one wanted name.
    """
    text = read_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}:{line}: a zero byte. Expected a table as text, in UTF-8.")
    delimiter = _delimiter(path, text, wanted)
    parsed = parse(text, delimiter, path)
    orange = delimiter == "\t" and _is_orange(parse(_sample(text), delimiter, quoted=False).rows)
    if orange:
        parsed = parse(text, delimiter, path, quoted=False)
    elif delimiter == "\t" and _misfits(parsed):  # tab-separated files have quotes as others do, or as plain characters
        plain = parse(text, delimiter, path, quoted=False)
        parsed = plain if _misfits(plain) < _misfits(parsed) else parsed
    return _table(path, parsed, delimiter, wanted, orange=orange)


def parse(text: str, delimiter: str, path: Path | None = None, *, quoted: bool = True) -> Parsed:
    """Returns the records of a text; with `quoted`, fields in double quotes may hold delimiters and line ends.

    Args:
        text: All of it.
        delimiter: What separates fields.
        path: The file, where what it costs is to be in proportion to its size.
        quoted: Whether quotes have a meaning.

    Raises:
        DataError: The fields would take more memory than they may.
    """
    result = Parsed()
    dialect = type("Found", (csv.excel,), {"delimiter": delimiter, "strict": True, "quoting": QUOTING[quoted]})
    size = path.stat().st_size if path is not None else len(text)
    before = csv.field_size_limit(len(text) + 1)  # the usual limit is 131,072 characters
    try:
        reader = csv.reader((line.group() for line in LINE.finditer(text)), dialect)
        once: dict[str, str] = {}
        for line, row in _records(reader, result.bad):
            if path is not None and len(row) > MOST_COLUMNS:
                if not result.rows:
                    raise DataError(
                        f"{path}:{line}: {len(row):,} columns; at most {MOST_COLUMNS:,} are read. Give so many "
                        "numbers as arrays (source: npz), or leave columns out."
                    )
                result.bad[line] = f"{len(row):,} fields; a table may have {MOST_COLUMNS:,} columns"
                continue
            if len(result.rows) % EACH == 0:
                result.cost += EACH * TEXT * sum(1 for _ in compress(row, map(not_, map(once.__contains__, row))))
                check_memory(result.cost, size, f"{path}: its cells, up to line {line:,} alone,", REMEDY)
            # Of those that name the columns none comes again.
            kept = once.setdefault if result.rows and len(once) < KEPT_ONCE else once.get
            result.rows.append(list(map(kept, row, row)))
            result.lines.append(line)
            result.cost += POINTERS * len(row)
        return result
    finally:
        csv.field_size_limit(before)


def _records(reader: Iterator[list[str]], bad: dict[int, str]) -> Iterator[tuple[int, list[str]]]:
    """Gives the line that each record begins at with its fields, until too many cannot be split."""
    while len(bad) < MOST_BAD:
        line = reader.line_num + 1  # type: ignore[attr-defined]  # of csv's reader
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad[line] = "a quote is opened here and never closed" if "end of data" in str(error) else str(error)
            continue
        if row:
            yield line, row


def _sample(text: str) -> str:
    """Returns the beginning of a text, up to a line's end."""
    if len(text) <= SAMPLE_CHARACTERS:
        lines = text.splitlines(keepends=True)
        return "".join(lines[:SAMPLE_ROWS])
    lines = text[:SAMPLE_CHARACTERS].splitlines(keepends=True)
    return "".join(lines[: min(SAMPLE_ROWS, max(len(lines) - 1, 1))])


def _delimiter(path: Path, text: str, wanted: Sequence[str]) -> str:
    """Returns what separates fields: what splits the first rows most evenly, outside quotes.

    (csv.Sniffer looks at letters too, and finds them in text.)
    """
    sample = _sample(text)
    if ending(path.name).removesuffix(GZ) in TAB_SUFFIXES and "\t" in sample:
        return "\t"
    best, found = (False, 0.0, 1), NO_DELIMITER
    for delimiter in DELIMITERS:
        rows = parse(sample, delimiter).rows
        if not rows:
            continue
        (width, often), *_ = Counter(map(len, rows)).most_common(1)
        names = any(_name(name) in wanted for name in rows[0])
        score = (names, often / len(rows), width)
        if width > 1 and score > best:
            best, found = score, delimiter
    return found


def _misfits(parsed: Parsed) -> int:
    """Returns how many records could not be split, or not into as many fields as the first."""
    return len(parsed.bad) + sum(len(row) != len(parsed.rows[0]) for row in parsed.rows)


def _is_orange(rows: list[list[str]]) -> bool:
    """Returns whether the first three rows are Orange's header."""
    if len(rows) < ORANGE_ROWS:
        return False
    types, flags = ([cell.strip().lower() for cell in row] for row in rows[1:ORANGE_ROWS])
    return all(one in ORANGE_TYPES for one in types) and all(one.split(" ")[0] in ORANGE_FLAGS for one in flags)


def _table(path: Path, parsed: Parsed, delimiter: str, wanted: Sequence[str], *, orange: bool) -> Table:
    header = 1 if orange or _has_header(parsed.rows, wanted) else 0
    width = max(map(len, parsed.rows[:1]), default=0)
    names = tuple(map(_name, parsed.rows[0])) if header else tuple(str(n + 1) for n in range(width))
    twice = [name for name, count in Counter(names).items() if count > 1 and name in wanted]
    if twice:
        raise DataError(f"{path}:{parsed.lines[0]}: there are two columns `{twice[0]}`. Rename one.")
    skip = ORANGE_ROWS if orange else header
    remark = f"delimiter: {DELIMITERS.get(delimiter, 'none')}"
    if not header:
        remark += "; no header: columns are called 1, 2, ..."
    rows, lines, bad, again = [], [], dict(parsed.bad), []
    heads = [list(map(_name, row)) for row in parsed.rows[:skip]]
    firsts = {head[0] for head in heads}
    for place in range(skip, len(parsed.rows)):
        row, line = parsed.rows[place], parsed.lines[place]
        first = row[0].strip() if row[0].isascii() else _name(row[0])  # of millions
        if first in firsts and list(map(_name, row)) in heads:
            again.append(line)
        elif len(row) == len(names):
            rows.append(row)
            lines.append(line)
        elif len(bad) < MOST_BAD:
            begin = delimiter.join(row[:SHOWN_FIELDS])
            bad[line] = f"{counted(len(row), 'field')}, expected {len(names)}: {shown(begin)}"
    table = Table(path, names, rows_to_columns(names, rows), lines, bad, remark=remark)
    if again:
        repeat = verb(len(again), "row repeats the header and was", "rows repeat the header and were")
        table.notes.append(
            f"{path}: {len(again):,} {repeat} left out, the first in line {again[0]}: are these files put together?"
        )
    return _marked(table, parsed.rows) if orange else table


def _name(cell: str) -> str:
    """Returns a column's name as it is compared; a file in the middle of others may begin with a byte order mark."""
    return normal(cell.lstrip("\ufeff").strip())


def _marked(table: Table, rows: list[list[str]]) -> Table:
    """Returns the table with what Orange's header says of its columns."""
    types, flags = ([cell.strip().lower() for cell in (*row, *[""] * len(table.names))] for row in rows[1:ORANGE_ROWS])
    for name, kind, flag in zip(table.names, types, flags, strict=False):
        if flag.split(" ")[0] in ("class", "c"):
            table.label = table.label or name
        elif kind in ORANGE_STRINGS:
            table.text = table.text or name
    out = (
        name
        for name, kind, flag in zip(table.names, types, flags, strict=False)
        if kind in ORANGE_STRINGS or flag.split(" ")[0] in ORANGE_FLAGS - {"", "class", "c"}
    )
    table.left_out = tuple(out)
    table.remark += "; Orange's three header rows"
    return table


def _has_header(rows: list[list[str]], wanted: Sequence[str]) -> bool:
    """Returns whether the first row names the columns.

    It does if it holds a name that is looked for, or if a column is of numbers from the second row on and no field of
    the first one is a number.
    """
    if not rows:
        return False
    first, rest = list(map(_name, rows[0])), [row for row in rows[1:SAMPLE_ROWS] if len(row) == len(rows[0])]
    if any(cell in wanted or cell.lower() in wanted for cell in first):
        return True
    if any(_is_number(cell) for cell in first) or not rest:
        return False
    return any(all(_is_number(row[place]) for row in rest) for place in range(len(first)))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python's own notation: 1_000
