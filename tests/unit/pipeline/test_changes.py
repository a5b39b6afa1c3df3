"""What `plan` says of why a step has to be made."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.pipeline.changes import changed, changed_rooms

PARTS: dict[str, Any] = {
    "stage": "prune",
    "code": {"training": "aa", "data": "bb", "models/built_in": "cc", "tasks": "dd"},
    "libraries": {"torch": "2.13.0", "numpy": "2.4.6"},
    "inputs": {"teacher": "ab"},
    "data": "12",
    "seed": 0,
    "threads": None,
    "split": {"augment": ["flip"], "validation": 0.1},
    "teacher": {"model": "resnet8", "args": {"width": 16}, "source": "34"},
    "prune": {"ratio": 0.5, "of": "macs", "train": {"epochs": 5, "warmup": True}},
}


def altered(**changes: Any) -> dict[str, Any]:
    """Returns the parts with some replaced; a dot in a name, written __, goes a level down."""
    parts = {key: dict(value) if isinstance(value, dict) else value for key, value in PARTS.items()}
    for path, value in changes.items():
        *outer, last = path.split("__")
        block = parts
        for key in outer:
            block[key] = dict(block[key])
            block = block[key]
        block[last] = value
    return parts


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (altered(), ""),
        (altered(inputs={"teacher": "cd"}), ""),
        (altered(prune__ratio=0.7), "prune.ratio 0.5 -> 0.7"),
        (altered(prune__train__epochs=9), "prune.train.epochs 5 -> 9"),
        (altered(prune__train__warmup=False), "prune.train.warmup true -> false"),
        (altered(threads=2), "threads none -> 2"),
        (altered(split__augment=["flip", "crop"]), "data.augment ['flip'] -> ['flip', 'crop']"),
        (altered(libraries__torch="2.14.0"), "torch 2.13.0 -> 2.14.0"),
        (altered(code__training="ee"), "the program's own code changed (training)"),
        (
            altered(code__training="ee", code__tasks="ff", prune__ratio=0.7, seed=1),
            "the program's own code changed (tasks, training), prune.ratio 0.5 -> 0.7 and 1 more change",
        ),
        (altered(code={}), "the program's own code changed (data, models/built_in, tasks and 1 more)"),
        (altered(data="56"), "the data's content changed"),
        (altered(teacher__source="56"), "the code of the teacher's model changed"),
        (altered(teacher__args={}), "teacher.args.width 16 -> none"),
        (altered(prune__ratio=0.7, seed=1), "prune.ratio 0.5 -> 0.7, seed 0 -> 1"),
        (
            altered(prune__ratio=0.7, seed=1, prune__of="size"),
            "prune.of macs -> size, prune.ratio 0.5 -> 0.7 and 1 more change",
        ),
        (
            altered(prune__ratio=0.7, seed=1, prune__of="size", threads=2),
            "prune.of macs -> size, prune.ratio 0.5 -> 0.7 and 2 more changes",
        ),
    ],
)
def test_what_changed_is_named_as_the_user_wrote_it(now: dict[str, Any], told: str) -> None:
    assert changed(now, PARTS) == told


def test_many_changes_are_counted() -> None:
    other = {f"key{number}": number for number in range(20)}
    found = changed(PARTS, other)
    assert found == (
        "the program's own code changed (data, models/built_in, tasks and 1 more), the data's content changed "
        "and 33 more changes"
    )


def test_a_first_run_has_changed_nothing() -> None:
    assert changed(PARTS, None) == ""


def test_the_rooms_whose_code_changed() -> None:
    assert changed_rooms(altered(code__training="ee", code__store="ff"), PARTS) == ["store", "training"]
    assert changed_rooms(PARTS, PARTS) == []
    assert changed_rooms(PARTS, {"stage": "prune"}) == ["data", "models/built_in", "tasks", "training"]
