"""Which sizes the configuration of a Hugging Face model may name, before anything is built by them."""

from __future__ import annotations

import re
from typing import Any

#: What a key is about, by its name -> the largest number that it may have. The first that fits counts.
LARGEST = (
    (re.compile(r"layers?$|_layers?_|depths?$|blocks?$"), 1_000),
    (re.compile(r"heads?$|experts?$|groups?$"), 4_096),
    (re.compile(r"labels?$"), 100_000),
    (re.compile(r"^(n|d|num|max|dim)_|(_size|_sizes|_dim|_dims|_embeddings|_positions|_length|_width)$|^dim$"), 2**22),
)
#: Of any other number, either way.
LARGEST_NUMBER = 2.0**31
#: Levels of a configuration (of vision and text, say, in one of both), and values in all of it.
DEEPEST, MOST_VALUES = 10, 1_000_000
#: Keys whose numbers may be below 0: tokens that there are none of.
TOKENS = re.compile(r"token|_id$|_ids$")


def check_sizes(config: dict[str, Any]) -> str:
    """Returns what is wrong with the numbers in a configuration, a sentence; "" for nothing."""
    waiting: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in config.items()]
    for seen in range(MOST_VALUES):
        if not waiting:
            return ""
        key, value, depth = waiting.pop()
        if isinstance(value, (dict, list)):
            if depth > DEEPEST:
                return f"`{_short(key)}` is nested more than {DEEPEST} levels deep, which no configuration is."
            if len(waiting) + len(value) > MOST_VALUES - seen:
                break
            children = value.items() if isinstance(value, dict) else ((key, one) for one in value)
            waiting += [(name, one, depth + 1) for name, one in children]
        elif wrong := _wrong(key, value):
            return f"`{_short(key)}` {wrong}."
    return f"more than {MOST_VALUES:,} values, which no configuration has."


def _wrong(key: str, value: Any) -> str:
    """Returns what is wrong with one value; "" for nothing."""
    largest = next((most for pattern, most in LARGEST if pattern.search(key)), None)
    if isinstance(value, str) and largest is not None and _is_number(value):
        return f"is the text {_short(value)!r}. Expected a number without quotes"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if not abs(value) <= LARGEST_NUMBER:  # NaN is not either
        return f"is {_short(str(value))}. Expected a number that a model may have"
    if largest is None or TOKENS.search(key):
        return ""
    if value < -1 or value > largest:
        return f"is {value:,}. Expected a number from 0 to {largest:,}"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text[:100])
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - as much as a line of a message takes
