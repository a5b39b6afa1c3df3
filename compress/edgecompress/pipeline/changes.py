"""Why a step has to be made: what is unlike the last run of the same recipe, which the store remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecompress.recipe.schema import Recipe
from edgecompress.store.files import is_whole, sealed, sha256_json, write_json
from edgecompress.store.reading import read_document
from edgecompress.store.store import Store

#: Changes named before the rest is counted.
NAMED = 2
#: First parts of a path that say nothing a user knows, or that he calls otherwise.
RENAMED = {"split": "data", "libraries": ""}
#: Facts that are hashes: path -> what changed, in words.
CONTENT = {
    "data": "the data's content",
    "teacher.source": "the code of the teacher's model",
    "student.source": "the code of the student's model",
    "teacher.weights": "the content of teacher.weights",
    "student.weights": "the content of student.weights",
}
#: What names a step, what it follows, which other steps' reasons tell, and the code, which is told by room.
PASSED_OVER = ("stage", "inputs", "code")
#: Key of the parts of the program that a result depends on: room -> hash.
CODE = "code"
#: Rooms named before the rest is counted.
ROOMS = 3
#: Characters of the name of a recipe's history.
DIGITS = 20
_ABSENT = object()


def changed(parts: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """Returns what is unlike an earlier step, in words; "" where nothing of its own is, or there was none.

    Args:
        parts: What a step's fingerprint is made of.
        before: The same of that stage in the last run of the same recipe.

    Returns:
        Such as `prune.ratio 0.5 -> 0.7 and 1 more change`.
    """
    if before is None:
        return ""
    mine, theirs = _flat(parts), _flat(before)
    unlike = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key, _ABSENT) != theirs.get(key, _ABSENT))
    told = [_tell(key, theirs.get(key, _ABSENT), mine.get(key, _ABSENT)) for key in unlike]
    rooms = changed_rooms(parts, before)
    if rooms:
        told.insert(0, f"the program's own code changed ({listed(rooms)})")
    more = len(told) - NAMED
    rest = f" and {more} more change{'s' if more > 1 else ''}" if more > 0 else ""
    return ", ".join(told[:NAMED]) + rest


def changed_rooms(parts: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Returns the rooms of the program whose code is not what it was, of those that the step depends on."""
    mine, theirs = parts.get(CODE) or {}, before.get(CODE) or {}
    return sorted(room for room in mine.keys() | theirs.keys() if mine.get(room) != theirs.get(room))


def listed(rooms: Sequence[str]) -> str:
    """Returns the first few rooms, and how many more there are."""
    more = len(rooms) - ROOMS
    return ", ".join(rooms[:ROOMS]) + (f" and {more} more" if more > 0 else "")


def _flat(parts: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{path}.{key}" if path else str(key), inner)
        else:
            flat[path] = value

    walk("", {key: value for key, value in parts.items() if key not in PASSED_OVER})
    return flat


def _tell(key: str, before: Any, now: Any) -> str:
    if key in CONTENT:
        return f"{CONTENT[key]} changed"
    first, _, rest = key.partition(".")
    name = ".".join(part for part in (RENAMED.get(first, first), rest) if part)
    return f"{name} {_show(before)} -> {_show(now)}"


def _show(value: Any) -> str:
    if value is _ABSENT or value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def last_parts(recipe: Recipe, store: Store) -> dict[str, Mapping[str, Any]]:
    """Returns stage -> what its fingerprint was made of in the last run of this recipe; nothing where there was none.

    A recipe is the same while its file is: overrides on the command line do not make it another.
    """
    try:
        found = read_document(_file(recipe, store), "what the last run was made of")
        return {str(stage): dict(parts) for stage, parts in found["stages"].items()} if is_whole(found) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember(recipe: Recipe, store: Store, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Keeps what the stages of a run are made of; stages that this run leaves out stay as they were.

    Raises:
        ResourceError: The file system refused.
    """
    write_json(_file(recipe, store), sealed({"stages": {**last_parts(recipe, store), **parts}}))


def _file(recipe: Recipe, store: Store) -> Path:
    name = sha256_json([recipe.base_dir, recipe.name])[:DIGITS]
    return store.notes() / f"{name}.json"
