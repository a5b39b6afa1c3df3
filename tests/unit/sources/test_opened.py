"""Files that a user's code opens while it is built are part of what its result depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.sources.opened import files_sha256, known_files, noting_files


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_files_that_are_read_are_remembered_and_their_content_counts(tmp_path: Path) -> None:
    read, written = tmp_path / "net.json", tmp_path / "log.txt"
    read.write_text("{}")
    with noting_files("key"):
        read.read_text()
        written.write_text("x")
        Path(__file__).read_text()  # code is known by itself
        (tmp_path / "absent").exists()
    assert known_files("key") == [str(read)]
    assert known_files("other") == []
    before = files_sha256("key", tmp_path)
    assert list(before) == ["net.json"]  # as the recipe's folder has it
    read.write_text('{"hidden": 3}')
    assert files_sha256("key", tmp_path) != before
    read.unlink()
    assert files_sha256("key", tmp_path) == {"net.json": ""}


def test_what_was_read_before_stays_known(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):  # the second time the module is imported already, and opens less
        (tmp_path / name).write_text(name)
        with noting_files("key"):
            (tmp_path / name).read_bytes()
    assert [Path(path).name for path in known_files("key")] == ["a.txt", "b.txt"]


def test_a_spoilt_memory_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with noting_files("key"):
        (tmp_path / "a.txt").read_bytes()
    (place,) = (tmp_path / "cache").rglob("opened-*.json")
    place.write_text("[")
    assert known_files("key") == []
