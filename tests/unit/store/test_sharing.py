"""Two users of one store: where a group shares it they use each other's results, elsewhere one sentence says no."""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError
from edgecompress.store.file_lock import exclusive
from edgecompress.store.files import write_bytes
from edgecompress.store.sharing import folder_in, make_folder, may_replace
from edgecompress.store.store import Store

PRINT = "ab" * 32
#: Numbers of users and groups that need no names.
ANNA, BERT, GROUP = 54_321, 54_322, 54_323
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def as_user(user: int, work: Callable[[], object], *, group: int = GROUP) -> str:
    """Returns what a function raised as another user, in a process of its own: "" if nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            os.setgroups([])
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
            work()
        except ResourceError as error:
            os.write(writing, f"ResourceError: {error}".encode())
        except BaseException:  # noqa: BLE001 - the parent tells
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read().decode()
    os.waitpid(child, 0)
    return told


def finish(root: Path, content: bytes = b"weights") -> None:
    store = Store(root)
    with store.workspace("teacher", PRINT) as work:
        write_bytes(work / "weights.bin", content)
        store.finish(work, "teacher", PRINT, {}, 1.0, ())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that every user can get to."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


@pytest.fixture
def shared(place: Path) -> Path:
    """A store that a group shares."""
    root = place / "store"
    root.mkdir()
    os.chown(root, ANNA, GROUP)
    root.chmod(0o2775)
    return root


@as_root
def test_users_of_a_group_make_and_replace_each_others_results(shared: Path) -> None:
    assert as_user(ANNA, lambda: finish(shared)) == ""

    def load() -> None:
        assert Store(shared).load("teacher", PRINT)[0] is not None

    assert as_user(BERT, load) == ""
    folder = Store(shared).folder("teacher", PRINT)
    (folder / "weights.bin").write_bytes(b"damaged")
    assert as_user(BERT, lambda: finish(shared, b"again")) == ""
    assert folder.stat().st_uid == BERT
    assert as_user(ANNA, lambda: finish(shared, b"and again")) == ""
    for path in shared.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert path.stat().st_gid == GROUP
        assert mode & (0o2070 if path.is_dir() else 0o060) == (0o2070 if path.is_dir() else 0o060), (path, oct(mode))


@as_root
def test_locks_and_checkpoints_of_another_user_are_taken_up(shared: Path) -> None:
    """A run that was killed leaves both."""
    store = Store(shared)
    lock, checkpoint = store.lock("prune", PRINT), store.checkpoints("prune", PRINT) / "prune-1.checkpoint"

    def leave() -> None:
        write_bytes(checkpoint, b"half")
        context = exclusive(lock)
        context.__enter__()
        os._exit(0)

    def take_up() -> None:
        with exclusive(lock):
            write_bytes(checkpoint, b"whole")
        store.drop_checkpoints("prune", PRINT)

    assert as_user(ANNA, leave) == ""
    assert lock.exists()
    assert as_user(BERT, take_up) == ""
    assert not lock.exists()
    assert not checkpoint.exists()


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_elsewhere_one_sentence_says_whose_it_is(place: Path, mode: int) -> None:
    root = place / "store"
    root.mkdir()
    os.chown(root, ANNA, ANNA)
    root.chmod(mode)
    assert as_user(ANNA, lambda: finish(root), group=ANNA) == ""
    told = as_user(BERT, lambda: finish(root), group=BERT)
    assert told.startswith("ResourceError: ")
    assert "EDGECOMPRESS_STORE" in told
    assert "\n" not in told

    def use() -> None:
        store = Store(root)
        assert (store.load("teacher", PRINT)[0] is not None) == (mode == 0o755)
        assert store.finished("teacher") == []
        store.once("flatbuffer", PRINT, lambda _work: {}, lambda _note: None)

    told = as_user(BERT, use, group=BERT)
    assert told.startswith("ResourceError: cannot l"), told
    assert "\n" not in told


@as_root
def test_what_cannot_be_replaced_is_said_before_it_is_made(place: Path) -> None:
    """A folder in which everybody may write, and nobody remove what is another's."""
    root = place / "store"
    root.mkdir()
    root.chmod(0o1777)
    assert as_user(ANNA, lambda: finish(root), group=ANNA) == ""
    (Store(root).folder("teacher", PRINT) / "weights.bin").write_bytes(b"damaged")
    began = root / "began"

    def make() -> None:
        store = Store(root)
        with store.workspace("teacher", PRINT):
            began.touch()

    told = as_user(BERT, make, group=BERT)
    assert "belongs to another user, so it cannot be made again" in told
    assert not began.exists()
    assert may_replace(root / "nothing")


def test_a_folder_that_is_not_shared_stays_as_the_umask_says(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)  # its group may write, but what is made in it is not its group's
    make_folder(tmp_path / "a" / "b")
    write_bytes(tmp_path / "a" / "b" / "file", b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/file")]
    assert [mode & 0o777 for mode in modes] == [0o755, 0o755, 0o644]


def test_a_shared_folder_hands_its_share_on(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    os.umask(0o077)
    make_folder(tmp_path / "a" / "b")
    write_bytes(tmp_path / "a" / "b" / "file", b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/file")]
    assert modes == [0o2770, 0o2770, 0o660]


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(ResourceError, match="file is a file, not a folder of the store: remove it"):
        folder_in(tmp_path, "file")
