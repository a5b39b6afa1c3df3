"""Why a step has to be made: what is unlike the most similar step that is finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: With more differences than this, two steps are simply different ones.
MOST_CHANGES = 8
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
#: What names a step, and what it follows, which other steps' reasons tell.
PASSED_OVER = ("stage", "inputs")
_ABSENT = object()


def changed(parts: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """Returns what is unlike the most similar of other steps, in words; "" where nothing of its own is.

    Args:
        parts: What a step's fingerprint is made of.
        others: The same of finished steps of that stage, the newest first.

    Returns:
        Such as `prune.ratio 0.5 -> 0.7 and 1 more change`; `not made yet` where no step is similar.
    """
    mine = _flat(parts)
    best: list[str] | None = None
    for other in others:
        theirs = _flat(other)
        unlike = sorted(
            key for key in mine.keys() | theirs.keys() if mine.get(key, _ABSENT) != theirs.get(key, _ABSENT)
        )
        if best is None or len(unlike) < len(best):
            best, found = unlike, theirs
    if best is None or len(best) > MOST_CHANGES:
        return "not made yet"
    told = [_tell(key, found.get(key, _ABSENT), mine.get(key, _ABSENT)) for key in best]
    more = len(told) - NAMED
    rest = f" and {more} more change{'s' if more > 1 else ''}" if more > 0 else ""
    return ", ".join(told[:NAMED]) + rest


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
