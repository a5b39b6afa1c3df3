"""The one reader: regular files only, no more of them than asked for, and never waiting."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from edgecompress.store import reading
from edgecompress.store.files import require_file, sha256_file
from edgecompress.store.reading import is_regular, open_regular, read_bounded, read_document, read_into_memory

GIB = 1024**3


def special(path: Path, kind: str) -> None:
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    elif kind == "disk":
        path.symlink_to("/proc/self/status")
    elif kind == "holes":
        with path.open("wb") as stream:
            stream.truncate(10 * GIB)


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "directory", "disk", "holes"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    special(path, kind)
    for reader in (open_regular, read_into_memory, sha256_file, lambda one: read_document(one, "a report")):
        with pytest.raises(OSError, match=r"(?i)" + kind.replace("holes", "holes|too large")) as refused:
            reader(path)
        assert refused.value.filename == str(path)


def test_what_becomes_a_pipe_between_looking_and_opening_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "x", tmp_path / "y"
    os.mkfifo(path)
    other.write_text("x")
    monkeypatch.setattr(reading, "_stat", lambda _: other.stat())
    with pytest.raises(OSError, match="a pipe, not a regular file"):
        open_regular(path)


def test_limits_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5, "a note") == b"12345"
    with pytest.raises(OSError, match=r"too large: 0\.0 MiB; a note has 4 bytes at most"):
        read_bounded(path, 4, "a note")


def test_a_file_that_grows_is_read_to_the_limit_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12")

    class Growing(io.BytesIO):
        """What a file looks like that grows as fast as it is read."""

        given = 0

        def fileno(self) -> int:
            return held

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert size >= 0
            Growing.given += size
            return bytes(size)

    held = os.open(path, os.O_RDONLY)
    monkeypatch.setattr(reading, "open_regular", lambda _: Growing())
    with pytest.raises(OSError, match="it grew beyond that"):
        read_bounded(path, 1000, "a note")
    os.close(held)
    assert Growing.given == 1001


def test_a_file_that_grew_a_little_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12")
    opened = reading.open_bounded

    def and_then_grow(*arguments: object) -> io.BufferedReader:
        stream = opened(*arguments)  # type: ignore[arg-type]
        size = os.fstat(stream.fileno())
        monkeypatch.setattr(reading.os, "fstat", lambda _: size)
        with path.open("ab") as more:
            more.write(b"3456")
        return stream

    monkeypatch.setattr(reading, "open_bounded", and_then_grow)
    assert read_bounded(path, 1000, "a note") == b"123456"


def test_files_with_some_holes_are_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as stream:
        stream.truncate(reading.HARMLESS_BYTES + 1)
        stream.seek(10_000_000)
        stream.write(b"x" * 2_000_000)
    with open_regular(path) as stream:
        assert stream.read(1) == b"\0"  # and it is read from its beginning
    with path.open("r+b") as stream:
        stream.seek(10_000_000)
        stream.truncate()
        stream.truncate(reading.HARMLESS_BYTES + 1)
    with pytest.raises(OSError, match="256 MiB, of which next to nothing is written"):
        open_regular(path)


def test_json_that_is_nested_too_deeply_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_document(path, "a report")


def test_names_that_no_file_can_have_are_told_as_such() -> None:
    with pytest.raises(OSError, match="null byte"):
        open_regular(Path("a\0b"))
    assert not is_regular(Path("a\0b"))


def test_folders_are_let_pass_where_they_may_stand(tmp_path: Path) -> None:
    require_file(tmp_path)
    os.mkfifo(tmp_path / "x")
    with pytest.raises(OSError, match="a pipe, not a regular file"):
        require_file(tmp_path / "x")
