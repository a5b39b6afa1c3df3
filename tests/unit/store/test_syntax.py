"""What of a source file counts: what it does, not what it says, and not how it is laid out."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.store.syntax import EFFECTS, definitions

SOURCE = '''
"""A module."""

from app.errors import BadError
from app.other import helper
from app import tools

#: Steps.
STEPS = 3
HINT = "try another"
TABLE: dict[str, object] = {"one": helper, "two": tools.second}


class Machine(Base):
    """Does things."""

    size: int = 4

    def run(self, x: int) -> int:
        """Runs."""
        if x < 0:
            told = f"{x} is below 0"
            raise BadError(f"{told}: {HINT}")
        self.ctx.note(f"running {x}")
        self.notes.append("it ran")
        reasons.append(f"slow: {helper(x)}")
        reasons += more_reasons(x)
        assert x, "nothing to do"
        return helper(x) + STEPS

    def rest(self):
        return BadError("later")
'''


def read(source: str = SOURCE, module: str = "app.machine") -> dict[str, dict[str, Any]]:
    return definitions(source.encode(), module, "app")


def hashes(source: str) -> dict[str, str]:
    return {name: found["hash"] for name, found in read(source).items()}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""A module."""', '"""Another module."""'),
        ('"""Runs."""\n        if', "if"),
        ("#: Steps.\n", "# How often.\n\n"),
        ("STEPS = 3", "STEPS  =  3  # three"),
        ("x: int) -> int", "x: float) -> float"),
        ("{x} is below 0", "{x} is too small"),
        ("{told}: {HINT}", "{told}. {HINT}"),
        ("running {x}", "at work on {x}"),
        ('"it ran"', '"it has run"'),
        ("slow: {", "far too slow: {"),
        ('"nothing to do"', '"no work"'),
        ('BadError("later")', 'BadError("not now")'),
        ("return helper(x) + STEPS", "return (\n            helper(x)\n            + STEPS\n        )"),
    ],
)
def test_what_is_said_does_not_count(before: str, after: str) -> None:
    assert before in SOURCE
    assert hashes(SOURCE.replace(before, after)) == hashes(SOURCE)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("STEPS = 3", "STEPS = 4", {"STEPS"}),
        ("size: int = 4", "size: int = 5", {"Machine"}),
        ("if x < 0", "if x <= 0", {"Machine.run"}),
        ("raise BadError", "raise OtherError", {"Machine.run"}),
        ("assert x", "assert not x", {"Machine.run"}),
        ("more_reasons(x)", "other_reasons(x)", {"Machine.run"}),
        ("slow: {helper(x)}", "slow: {helper(-x)}", {"Machine.run"}),
        ('return BadError("later")', "return OtherError()", {"Machine.rest"}),
        ('"two": tools.second', '"two": tools.third', {"TABLE[two]"}),
        ('"try another"', '"try"', {"HINT"}),
    ],
)
def test_what_is_done_counts_where_it_is_done(before: str, after: str, changed: set[str]) -> None:
    mine, theirs = hashes(SOURCE), hashes(SOURCE.replace(before, after))
    assert {name for name in mine if mine[name] != theirs[name]} == changed


def test_what_each_definition_uses() -> None:
    found = read()
    assert found["Machine.run"]["uses"] == ["app.machine.STEPS", "app.other.helper"]
    assert found["TABLE"]["uses"] == ["app.machine.TABLE[one]", "app.machine.TABLE[two]"]
    assert found["TABLE[two]"]["uses"] == ["app.tools.second"]
    assert found["Machine"]["bases"] == [""]  # of another package
    assert found["helper"] == {"hash": "", "uses": ["app.other.helper"], "attributes": [], "bases": []}
    assert EFFECTS not in found


def test_attributes_are_mentioned_by_their_names_and_as_texts() -> None:
    found = read("def f(x):\n    setattr(x, 'width', x.conv.weight)\n    return getattr(x, 'bias', None)\n")
    assert found["f"]["attributes"] == ["bias", "conv", "weight", "width"]


def test_a_module_that_is_started_by_its_name_is_used() -> None:
    found = read('def f():\n    return ["-m", "app.child", "app.no module"]\n')
    assert found["f"]["uses"] == ["app.child"]


CHOOSING = """
import app.other

if app.other.READY:
    def f():
        return 1
else:
    f = None
prepare()
"""


def test_what_a_module_does_beside_defining_names() -> None:
    found = read(CHOOSING)
    assert set(found) == {"app", EFFECTS}
    assert "app.other.READY" in found[EFFECTS]["uses"]
    assert hashes(CHOOSING.replace("return 1", "return 2")) != hashes(CHOOSING)


def test_texts_that_something_else_reads_count() -> None:
    source = 'def f(x):\n    key = "a"\n    warn(key)\n    return x[key]\n'
    assert hashes(source) != hashes(source.replace('"a"', '"b"'))


SPEC = """
class Spec(Block):
    ratio: float = Field(0.5, description="Share.")

    def goal(self):
        return self.ratio
"""


def test_fields_of_recipes_stand_in_fingerprints_by_their_values() -> None:
    inside = [definitions(text.encode(), "app.recipe.schema", "app") for text in (SPEC, SPEC.replace("0.5", "0.7"))]
    assert inside[0] == inside[1]
    assert read(SPEC) != read(SPEC.replace("0.5", "0.7"))
