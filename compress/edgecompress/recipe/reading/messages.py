"""What pydantic finds wrong with a recipe, in plain words: where, expected and found values, the nearest name."""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edgecompress.recipe.fields import (
    KeyPath,
    accepts_null,
    alternatives,
    block_of,
    blocks,
    choices,
    dotted,
    field_at,
    keys_of,
    known_field,
    listed,
    places_of,
    range_words,
    type_words,
)
from edgecompress.recipe.reading.source import Document

#: Names people know from other tools -> the key here.
OTHER_NAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "batch": "batch_size",
    "optim": "optimizer",
    "scheduler": "schedule",
    "warmup_ratio": "warmup",
    "dataset": "data",
    "network": "model",
    "arch": "model",
    "backbone": "model",
    "architecture": "model",
    "checkpoint": "weights",
    "pretrained": "weights",
    "kwargs": "args",
    "params": "args",
    "sparsity": "ratio",
    "amount": "ratio",
    "quantization": "quantize",
    "quantisation": "quantize",
    "quantise": "quantize",
    "pruning": "prune",
    "distillation": "distill",
    "distil": "distill",
    "augmentation": "augment",
    "augmentations": "augment",
    "val": "validation",
    "temp": "temperature",
    "tau": "temperature",
    "max_size": "size_kib",
    "max_latency": "latency_ms",
}
#: Values people know from other tools -> the value here.
OTHER_VALUES = {"gpu": "cuda", "float": "float32", "fp32": "float32", "i8": "int8", "tflite": "litert"}
#: Letters of a wrong text that a message repeats.
MAX_SHOWN = 60
PERCENT = 100
#: Words that other tools, and YAML before version 1.2, take for a switch.
SWITCHES = {"yes": True, "on": True, "y": True, "no": False, "off": False, "n": False}
CURLY = re.compile("[\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}]")
#: Problems that are shown; whoever has more has given another file than he thinks.
MAX_PROBLEMS = 50
#: Required keys -> what to write.
EXAMPLES = {"version": "write `version: 1`", "model": "for example `model: resnet8`"}


def complain_about(error: ValidationError, document: Document) -> None:
    """Adds pydantic's findings to the document's problems, one for each place, in the project's own words."""
    seen: set[KeyPath] = set()
    for detail in error.errors(include_url=False):
        path = real_path(detail["loc"], document.data, into_lists=False)
        if detail["type"] == "wrong_combination":
            path = (*path, *filter(None, [str(detail["ctx"]["key"])]))
        if path in seen or document.is_broken(path):
            continue
        seen.add(path)
        # The nearest names of thousands would take minutes to find.
        many = len(document.problems) >= MAX_PROBLEMS
        message, hint = ("is not valid", "") if many else _words(detail, path)
        document.complain(path, message, hint, of_key=detail["type"] == "extra_forbidden")


def nearest(value: Any, known: list[Any]) -> str:
    """Returns "did you mean `...`?" for the closest known name, or "" where none is close."""
    asked = OTHER_VALUES.get(str(value).lower(), str(value).lower())
    close = difflib.get_close_matches(asked, [str(name) for name in known], n=1)
    return f"did you mean `{close[0]}`?" if close else ""


def real_path(location: tuple[str | int, ...], data: Any, *, into_lists: bool = True) -> KeyPath:
    """Drops what pydantic adds to a location: the names of a union's members.

    With `into_lists` an item behind such a name is named too; without, the path ends at the value that is the union.
    """
    path: KeyPath = ()
    for part in location:
        if isinstance(part, int):
            if not (isinstance(data, list) and part < len(data)):
                break
            data = data[part]
        elif isinstance(data, list) and into_lists:
            continue  # the name of the member that is a list
        elif isinstance(data, dict) and (part in data or field_at((*path, part)) is not None):
            data = data.get(part)
        else:
            break
        path = (*path, part)
    return path


def _words(detail: ErrorDetails, path: KeyPath) -> tuple[str, str]:
    """Returns message and hint for one finding."""
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    field = known_field(path)
    if kind == "missing":
        return "is required", EXAMPLES.get(str(path[-1]), "")
    if kind in ("value_error", "wrong_combination"):
        return detail["msg"].removeprefix("Value error, "), ""
    if path == ("name",) and kind != "string_type":
        slip = _slip(field, value) if isinstance(value, str) else ""
        return "must begin with a letter or digit and hold letters, digits, `.`, `-`, `_` and spaces, 100 at most", slip
    if isinstance(path[-1], int):
        known = choices(field)
        expected = listed(known) if known else f"{type_words(field)} here"
        return f"expected {expected}, found {found(value)}", nearest(value, known)
    if kind == "too_short" and not value:
        return f"expected {type_words(field)}, found an empty list", ""
    expected = type_words(field) + (" (or `null`)" if accepts_null(field) else "")
    return f"expected {expected}, found {found(value)}", _hint(path, value)


def empty_block(path: KeyPath) -> tuple[str, str]:
    """Returns message and hint for a block with nothing in it, which could mean two things."""
    name = path[-1]
    return (
        "nothing stands in this block, which could mean its defaults or that it is not wanted",
        f"write `{name}: {{}}` for its defaults, or remove the line to leave it out",
    )


def found(value: Any) -> str:
    """Returns a value as a phrase: what it is, and for plain ones what it says."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f"the text `{_start(value)}`"
    if isinstance(value, (int, float)):
        return f"`{value:g}`" if isinstance(value, float) else f"`{_start(str(value))}`"
    return "a list" if isinstance(value, (list, tuple)) else "a block of keys"


def _start(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _unknown_key(path: KeyPath) -> tuple[str, str]:
    key, parent = str(path[-1]), path[:-1]
    block = blocks().get(dotted(parent))
    siblings = list(keys_of(block)) if block is not None else []
    message = f"no such key in the block `{dotted(parent)}`" if parent else "no such key at the top level"
    known = OTHER_NAMES.get(key.lower(), key)
    if known in siblings:
        return message, f"did you mean `{known}`?"
    places = places_of(known)
    inside = [place for place in places if parent and place.startswith(f"{dotted(parent)}.")]
    if places:
        return message, f"`{known}` belongs in {listed((inside or places)[:4])}"
    near = nearest(key, siblings)
    if near:
        return message, near
    everywhere = {name: place for place, keys in blocks().items() for name in keys_of(keys)}
    far = difflib.get_close_matches(key.lower(), list(everywhere), n=1, cutoff=0.8)
    if far:
        return message, f"did you mean {listed(places_of(far[0])[:4])}?"
    return message, f"its keys are {listed(siblings, 'and')}" if siblings else ""


def _hint(path: KeyPath, value: Any) -> str:
    field = known_field(path)
    members = alternatives(field.annotation)
    if path == ("version",):
        return "this program reads version 1"
    if isinstance(value, str) and (slip := _slip(field, value)):
        return slip
    block = block_of(field)
    if block is not None:
        example = "model: " if "model" in keys_of(block) and isinstance(value, str) else ""
        return (
            f"write `{path[-1]}: {{{example}{value}}}`"
            if example
            else f"its keys are {listed(list(keys_of(block)), 'and')}"
        )
    if choices(field):
        return nearest(value, choices(field))
    if isinstance(value, str) and (int in members or float in members) and _is_number(value):
        return "write the number without quotes"
    if members == [str] and isinstance(value, (int, float)):
        return f'put it in quotes: "{str(value).lower() if isinstance(value, bool) else value}"'
    if "above 1 " in range_words(field) and isinstance(value, (int, float)) and 0 < value <= 1:
        return f"in percent: write {value:g} as {value * PERCENT:g}"
    if "below 1" in range_words(field) and isinstance(value, (int, float)) and 1 < value < PERCENT:
        return f"a share: write {value:g} % as {value / PERCENT:g}"
    return ""


def _slip(field: FieldInfo, text: str) -> str:
    """Returns how to mend a text that is nearly what was meant, "" where it is none of the usual slips."""
    members = alternatives(field.annotation)
    if CURLY.search(text):
        return "curly quotes are letters like any other: use straight ones"
    if block_of(field) is not None and (glued := re.fullmatch(r"(\w+):(\S+)", text)):
        return f"a space is missing behind the colon: `{glued[1]}: {glued[2]}`"
    if bool in members and text.lower() in SWITCHES:
        return f"write `{str(SWITCHES[text.lower()]).lower()}`"
    if (int in members or float in members) and re.match(r"[\d.]+ *[a-zA-Z%]+$", text):
        return "write the number alone"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
