"""What a piece of a program can reach: by its names, by its methods' names, and no further than it is let."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError
from edgecompress.store import code
from edgecompress.store.code import Program, Reach
from edgecompress.store.syntax import definitions

MODULES = {
    "app.start": """
        from app import shapes
        from app.shapes import Square
        from app.table import KINDS

        def run(kind, thing):
            shapes.draw(thing)
            return KINDS[kind](thing).area()

        def other():
            return Square
    """,
    "app.shapes": """
        from app.shapes_base import Shape
        from app.borrowed import Widget

        LIMIT = 3

        def draw(thing):
            return thing.outline

        def unused():
            return LIMIT

        class Square(Shape):
            def __init__(self, side):
                self.side = side

            def area(self):
                return self.side ** 2

            def name(self):
                return LIMIT

        class Picture(Widget):
            def paint(self):
                return LIMIT
    """,
    "app.shapes_base": """
        class Shape:
            def outline(self):
                return []
    """,
    "app.borrowed": """
        try:
            from frame import Widget
        except ImportError as error:
            raise RuntimeError("no frame") from error
    """,
    "app.table": """
        from app.shapes import Picture, Square

        KINDS = {"square": Square, "picture": Picture}
    """,
}


@pytest.fixture
def program() -> Program:
    return Program({name: definitions(textwrap.dedent(text).encode(), name, "app") for name, text in MODULES.items()})


def reach(program: Program, *roots: str, cuts: tuple[str, ...] = (), **entries: tuple[str, ...]) -> set[str]:
    tables = {f"app.table.{name}": frozenset(keys) for name, keys in entries.items()}
    found = program.reached(Reach(frozenset(roots), frozenset(cuts), tables))
    return {name.removeprefix("app.") for name in found if program.hash_of(name)}


SQUARE = {
    "start.run", "shapes.draw", "table.KINDS", "table.KINDS[square]", "shapes.Square", "shapes.Square.__init__",
    "shapes.Square.area", "shapes_base.Shape", "shapes_base.Shape.outline",
}  # fmt: skip


def test_methods_count_where_their_names_are_mentioned(program: Program) -> None:
    found = reach(program, "app.start.run", KINDS=("square",))
    assert found == SQUARE  # neither `name`, which nobody calls, nor `unused` and the constant that only these read


def test_all_methods_of_a_class_count_that_a_framework_may_call(program: Program) -> None:
    found = reach(program, "app.start.run")
    assert found == SQUARE | {"table.KINDS[picture]", "shapes.Picture", "shapes.Picture.paint", "shapes.LIMIT"}


def test_what_is_cut_is_not_followed(program: Program) -> None:
    assert reach(program, "app.start.run", cuts=("app.table",)) == {"start.run", "shapes.draw"}
    assert reach(program, "app.start.run", cuts=("app.table.KINDS",)) == {"start.run", "shapes.draw"}
    found = reach(program, "app.start.run", cuts=("app.shapes.Square",), KINDS=("square",))
    assert found == {"start.run", "shapes.draw", "table.KINDS", "table.KINDS[square]"}


@pytest.mark.parametrize("name", ["app.start.walk", "app.nothing", "other.run"])
def test_names_that_are_not_there_are_told(program: Program, name: str) -> None:
    with pytest.raises(KeyError, match=f"the program has no {name}"):
        reach(program, name)
    with pytest.raises(KeyError, match=f"the program has no {name}"):
        reach(program, "app.start.run", cuts=(name,))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of two files in the place of the real one."""
    root = tmp_path / "program" / "edgecompress"
    (root / "room").mkdir(parents=True)
    (root / "__init__.py").touch()
    (root / "room" / "__init__.py").touch()
    (root / "room" / "a.py").write_text("from edgecompress.b import LIMIT\n\n\ndef run():\n    return LIMIT\n")
    (root / "b.py").write_text("LIMIT = 3\nOTHER = 4\n")
    monkeypatch.setattr(code, "ROOT", root)
    monkeypatch.setattr(code, "_programs", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


ANY = {"uses": [], "attributes": [], "bases": []}
RUN = Reach(frozenset({"edgecompress.room.a.run"}))


def test_hashes_are_by_room_and_follow_the_sources(copy: Path) -> None:
    before = code.code_hashes(RUN)
    assert list(before) == ["b", "room"]
    (copy / "b.py").write_text('"""Numbers."""\n\nLIMIT = 3  # as before\nOTHER = 5\n')
    assert code.code_hashes(RUN) == before
    (copy / "b.py").write_text("LIMIT = 4\nOTHER = 4\n")
    after = code.code_hashes(RUN)
    assert after["b"] != before["b"]
    assert after["room"] == before["room"]


def test_files_that_are_as_they_were_are_not_read_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
    now = time.time_ns()
    monkeypatch.setattr(code, "time_ns", lambda: now + 3 * code.SETTLED_NS)
    first = code.read_program()
    with monkeypatch.context() as unread:
        unread.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
        assert code.read_program() is first
    text = (copy / "b.py").read_text()
    (copy / "b.py").write_text(text.replace("3", "7"))
    os.utime(copy / "b.py", (1, 1))
    assert code.read_program() is not first, "same size and time, other content"


def test_a_file_just_written_is_read_again_whatever_its_time_says(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code.code_hashes(RUN)
    found = code._state
    states = {path: found(str(path)) for path in copy.rglob("*.py")}
    monkeypatch.setattr(code, "_state", lambda path: states[Path(path)])
    (copy / "b.py").write_text("LIMIT = 7\nOTHER = 4\n")
    assert code.code_hashes(RUN)["b"] != before["b"]


def test_what_was_parsed_is_remembered_and_damage_to_that_is_noticed(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code.code_hashes(RUN)
    (memory,) = (tmp_path / "cache" / "edgecompress").glob("code-*.json")
    monkeypatch.setattr(code, "_programs", {})
    with monkeypatch.context() as patch:
        patch.setattr(code, "definitions", lambda *_: pytest.fail("parsed again"))
        assert code.code_hashes(RUN) == before
    memory.write_bytes(memory.read_bytes().replace(b'"uses":["edgecompress.b.LIMIT"]', b'"uses":[]'))
    monkeypatch.setattr(code, "_programs", {})
    assert code.code_hashes(RUN) == before
    (copy / "b.py").write_text("LIMIT = 5\n")
    assert code.code_hashes(RUN) != before


def test_another_reader_reads_anew(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code.code_hashes(RUN)
    other = tmp_path / "syntax.py"
    other.write_text("# reads otherwise")
    monkeypatch.setattr(code.syntax, "__file__", str(other))
    monkeypatch.setattr(code, "_programs", {})
    monkeypatch.setattr(code, "definitions", lambda source, *_: {"run": {**ANY, "hash": source[:8].hex()}})
    assert code.code_hashes(RUN) != before


def test_where_nothing_can_be_remembered_it_is_parsed_again(copy: Path, tmp_path: Path) -> None:
    before = code.code_hashes(RUN)
    (tmp_path / "cache" / "edgecompress").rename(tmp_path / "elsewhere")
    (tmp_path / "cache" / "edgecompress").touch()  # a file where the folder would be
    (copy / "b.py").write_text("LIMIT = 5\n")
    assert code.code_hashes(RUN) != before


def test_a_source_that_is_no_python_is_named(copy: Path) -> None:
    (copy / "b.py").write_text("LIMIT = 3\ndef f(:\n")
    with pytest.raises(ResourceError, match=r"edgecompress\.b is no Python \(line 2"):
        code.code_hashes(RUN)
