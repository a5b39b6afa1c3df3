"""Tables as JSON: one object per line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from edgecompress.data.limits import MOST_COLUMNS, check_memory
from edgecompress.data.reading.folders import normal
from edgecompress.data.reading.table import MISSING, MOST_BAD, Table, shown
from edgecompress.data.reading.text_reading import read_text
from edgecompress.errors import DataError

#: Lines end at this alone: str.splitlines splits at characters too that JSON allows within a text.
LINE = re.compile(r"[^\n]+|\n")
#: Bytes that a text, a list and an object take in memory beside what they hold, and a place in a list or an object.
TEXT, HOLDER, PLACE = 56, 64, 40
REMEDY = "Unpack it, use a part of it, or give the numbers as arrays (source: npz)."


def read_json_lines(path: Path) -> Table:
    """Returns the table in a file, lines that are no objects among its bad ones; blank lines are left out.

    Raises:
        DataError: It cannot be read, is not UTF-8, or is one JSON array.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        raise DataError(f"{path}:1: a JSON array. Expected one JSON object per line: jq -c '.[]' {path.name}")
    bad: dict[int, str] = {}
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    names: dict[str, None] = {}
    number, cost, size = 1, 0, path.stat().st_size
    for match in LINE.finditer(text):
        line = match.group()
        if line == "\n":
            number += 1
            continue
        found, wrong = _object(line)
        if found is not None:
            cost += _cost(found)
            check_memory(cost, size, f"{path}: its objects, up to line {number:,} alone,", REMEDY)
            names.update(dict.fromkeys(found))
            if len(names) > MOST_COLUMNS:
                raise DataError(
                    f"{path}:{number}: up to here there are {len(names):,} different keys, at most {MOST_COLUMNS:,} "
                    "are read. Give many numbers as a list under one key, and name that in data.features."
                )
            objects.append(found)
            lines.append(number)
        elif wrong:
            bad[number] = wrong
            if len(bad) == MOST_BAD:
                break
    check_memory(
        8 * len(names) * len(objects), size, f"{path}: {len(names):,} keys in {len(objects):,} objects", REMEDY
    )
    columns = {name: [one.get(name, MISSING) for one in objects] for name in names}
    return Table(path, tuple(names), columns, lines, bad, noun="key")


def _object(line: str) -> tuple[dict[str, Any] | None, str]:
    """Returns (what a line holds, what is wrong with it); nothing of a blank one."""
    if not line.strip():
        return None, ""
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        return None, f"no JSON: {error.msg} at column {error.colno}"
    except (RecursionError, ValueError) as error:  # nested too deep; an integer of too many digits
        return None, f"no JSON that can be read: {error}"
    if not isinstance(found, dict):
        return None, f'{shown(found)} is no object. Expected one such as {{"text": "...", "label": "..."}}'
    return {normal(key): value for key, value in found.items()}, ""


def _cost(found: dict[str, Any]) -> int:
    """Returns the bytes that a line's values take in memory, about."""
    cost = 0
    waiting: list[Any] = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            cost += TEXT + len(one)
            continue
        values = one.values() if isinstance(one, dict) else one
        cost += HOLDER + PLACE * len(one)
        waiting += [value for value in values if isinstance(value, (dict, list, str))]
    return cost
