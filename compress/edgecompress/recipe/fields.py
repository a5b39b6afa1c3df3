"""The recipe's shape, read from the pydantic models: which keys exist, where, and what each one takes, in words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from edgecompress.recipe.schema import Block, Recipe, Trains

#: Numbers from here on are shown with separators.
GROUPED_FROM = 10_000
KeyPath = tuple[str | int, ...]

SCALAR_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "`true` or `false`",
    dict: "a block of keys",
}


def dotted(path: KeyPath) -> str:
    """Returns a path as users write it: `data.augment[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def alternatives(annotation: Any) -> list[Any]:
    """Returns the members of a union in order, `None` aside; anything else is its own only member."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for member in get_args(annotation) if member is not type(None)]
    return [annotation]


def accepts_null(field: FieldInfo) -> bool:
    """Returns whether the key may be `null`."""
    return type(None) in get_args(field.annotation)


def block_of(field: FieldInfo) -> type[Block] | None:
    """Returns the block a key holds, or None where it holds a plain value."""
    for member in alternatives(field.annotation):
        if isinstance(member, type) and issubclass(member, Block):
            return member
    return None


def choices(field: FieldInfo) -> list[Any]:
    """Returns the values a key (or an item of its list) may have, empty where any value of the type will do."""
    found: list[Any] = []
    for member in alternatives(field.annotation):
        items = get_args(member) if get_origin(member) is tuple else (member,)
        for item in items:
            if get_origin(item) is Literal:
                found.extend(get_args(item))
    return found


def keys_of(block: type[Block]) -> dict[str, FieldInfo]:
    """Returns the keys a user may write in a block, in order."""
    return {name: field for name, field in block.model_fields.items() if not field.exclude}


@cache
def blocks() -> dict[str, type[Block]]:
    """Returns every block of a recipe by its dotted path, "" for the top level, parents before children."""

    def walk(prefix: str, block: type[Block]) -> Iterator[tuple[str, type[Block]]]:
        yield prefix, block
        for name, field in keys_of(block).items():
            inner = block_of(field)
            if inner is not None:
                yield from walk(f"{prefix}.{name}" if prefix else name, inner)

    return dict(walk("", Recipe))


def field_at(path: KeyPath) -> FieldInfo | None:
    """Returns the field a path leads to (positions in lists aside), or None where there is no such key."""
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return None
    parent = blocks().get(".".join(names[:-1]))
    return keys_of(parent).get(names[-1]) if parent else None


def known_field(path: KeyPath) -> FieldInfo:
    """Returns the field a path leads to.

    Raises:
        KeyError: There is no such key.
    """
    field = field_at(path)
    if field is None:
        raise KeyError(dotted(path))
    return field


def places_of(key: str) -> list[str]:
    """Returns the dotted paths at which a key of this name exists."""
    return [f"{path}.{key}" if path else key for path, block in blocks().items() if key in keys_of(block)]


def default_of(path: KeyPath) -> Any:
    """Returns the value a plain key has when a recipe leaves it out, as the block it stands in fills it.

    Raises:
        KeyError: There is no such key.
    """
    field = known_field(path)
    owner = blocks().get(".".join(str(part) for part in path[:-2]))
    if len(path) > 1 and path[-2] == "train" and owner is not None and issubclass(owner, Trains):
        return owner.filled_train({}).get(str(path[-1]), field.default)
    return field.get_default(call_default_factory=True)


def range_words(field: FieldInfo) -> str:
    """Returns the limits of a number in words, "" where there are none."""
    above = below = least = most = ""
    for mark in field.metadata:
        if isinstance(mark, annotated_types.Gt):
            above = f"above {_number(mark.gt)}"
        elif isinstance(mark, annotated_types.Ge):
            least = _number(mark.ge)
        elif isinstance(mark, annotated_types.Lt):
            below = f"below {_number(mark.lt)}"
        elif isinstance(mark, annotated_types.Le):
            most = _number(mark.le)
    if least and (most or below):
        return f"from {least} to {most or below}"
    low = above or (f"of at least {least}" if least else "")
    high = below or (f"{'' if above else 'of '}at most {most}" if most else "")
    return " and ".join(part for part in (low, high) if part)


def type_words(field: FieldInfo) -> str:
    """Returns what a key takes, in words: `a number above 0 and below 1`."""
    words = []
    for member in alternatives(field.annotation):
        arguments = get_args(member)
        if get_origin(member) is Literal:
            words.append(listed(arguments))
        elif get_origin(member) is tuple:
            size = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
            words.append(f"a list of {size}{_item_words(arguments[0])}")
        elif isinstance(member, type) and issubclass(member, Block):
            words.append(SCALAR_WORDS[dict])
        else:
            words.append(SCALAR_WORDS.get(get_origin(member) or member, "a value"))
    limits = range_words(field)
    return " or ".join(words) + (f" {limits}" if limits else "")


def listed(values: tuple[Any, ...] | list[Any], last: str = "or") -> str:
    """Returns values as a phrase: `a`, `b` or `c`."""
    quoted = [f"`{value}`" for value in values]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def _item_words(item: Any) -> str:
    if get_origin(item) is Literal:
        return listed(get_args(item))
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(item, "values")


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value >= GROUPED_FROM else f"{value:g}"
