"""Tables as JSON: one object per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgecompress.data.reading.folders import normal
from edgecompress.data.reading.table import MISSING, Table, shown
from edgecompress.data.reading.text_reading import read_text
from edgecompress.errors import DataError


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
    # Not str.splitlines, which splits at characters that JSON allows within a text.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            bad[number] = f"no JSON: {error.msg} at column {error.colno}"
            continue
        except (RecursionError, ValueError) as error:  # nested too deep; an integer of too many digits
            bad[number] = f"no JSON that can be read: {error}"
            continue
        if isinstance(found, dict):
            objects.append({normal(key): value for key, value in found.items()})
            lines.append(number)
        else:
            bad[number] = f'{shown(found)} is no object. Expected one such as {{"text": "...", "label": "..."}}'
    names = tuple(dict.fromkeys(key for one in objects for key in one))
    columns = {name: [one.get(name, MISSING) for one in objects] for name in names}
    return Table(path, names, columns, lines, bad, noun="key")
