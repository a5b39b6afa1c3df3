"""Logs and locks: never through a link, and nothing of others is changed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError
from edgecompress.store.file_lock import exclusive
from edgecompress.store.own_files import own_log
from edgecompress.store.store import Store

SPECIAL = ("link", "dangling", "pipe", "folder", "device", "socket", "hard link")


def put(path: Path, kind: str, victim: Path) -> None:
    match kind:
        case "link":
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(victim.with_name("nothing"))
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        case "hard link":
            path.hardlink_to(victim)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victims" / "victim"
    path.parent.mkdir()
    path.write_text("precious")
    return path


def untouched(victim: Path) -> bool:
    return [path.name for path in victim.parent.iterdir()] == ["victim"] and victim.read_text() == "precious"


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_lock_is_refused(tmp_path: Path, victim: Path, kind: str) -> None:
    path = tmp_path / ".lock"
    put(path, kind, victim)
    expected = r"cannot lock .*\.lock: it is a.*not a file that edgecompress has made"
    with pytest.raises(ResourceError, match=expected), exclusive(path):
        pytest.fail("held")
    assert untouched(victim)
    assert os.path.lexists(path)


@pytest.mark.parametrize("text", ["precious", "12\n", "1" * 21, " "])
def test_a_file_that_is_called_like_a_lock_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".lock"
    path.write_text(text)
    expected = "it is no lock, not a file that edgecompress has made"
    with pytest.raises(ResourceError, match=expected), exclusive(path):
        pytest.fail("held")
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", "12"])
def test_the_lock_of_a_killed_process_is_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".lock"
    path.write_text(text)
    with exclusive(path):
        assert path.read_text() == str(os.getpid())


@pytest.mark.parametrize("kind", [kind for kind in SPECIAL if kind != "hard link"])
@pytest.mark.parametrize("keep", [True, False])
def test_what_is_no_log_is_refused(tmp_path: Path, victim: Path, kind: str, keep: bool) -> None:
    path = tmp_path / "run.log"
    put(path, kind, victim)
    with pytest.raises(OSError, match=r"it is a .*not a file that edgecompress has made"):
        own_log(path, keep=keep)
    assert untouched(victim)


@pytest.mark.parametrize(("keep", "expected"), [(True, "precious, more"), (False, ", more")])
def test_a_log_with_other_names_leaves_those_as_they_are(
    tmp_path: Path, victim: Path, keep: bool, expected: str
) -> None:
    path = tmp_path / "run.log"
    path.hardlink_to(victim)
    with os.fdopen(own_log(path, keep=keep), "ab") as log:
        log.write(b", more")
    assert path.read_text() == expected
    assert untouched(victim)


@pytest.mark.parametrize("place", ["locks", "checkpoints", "last", "prune-ab", "checkpoints/prune-ab"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "file"])
def test_folders_of_the_store_are_no_links(tmp_path: Path, victim: Path, place: str, kind: str) -> None:
    store = Store(tmp_path / "store")
    path = store.root / place
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("")
    else:
        put(path, kind, victim.parent if kind == "link" else victim)

    def use() -> None:
        with store.workspace("prune", "ab"):
            store.lock("prune", "ab")
            store.checkpoints("prune", "ab")
            store.notes()

    with pytest.raises(ResourceError, match=rf"{place} is a (link|file), not a folder of the store: remove it"):
        use()
    assert untouched(victim)
