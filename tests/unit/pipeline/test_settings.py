"""The store as the environment describes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError, UsageError
from edgecompress.pipeline.settings import open_store
from edgecompress.store.seals import without_key
from edgecompress.store.store import Store

PRINT = "ab" * 32


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EDGECOMPRESS_STORE", "EDGECOMPRESS_STORE_READONLY", "EDGECOMPRESS_STORE_KEY"):
        monkeypatch.delenv(name, raising=False)


def finish(store: Store) -> None:
    with store.workspace("teacher", PRINT) as work:
        store.finish(work, "teacher", PRINT, {}, 1.0, ())


def test_by_default_it_lies_beside_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    assert (store.root, store.read_only, store.seal.key) == (Path("runs/.store"), False, None)
    monkeypatch.setenv("EDGECOMPRESS_STORE_READONLY", "")
    assert not open_store(Path("here")).read_only
    assert open_store(Path("here")).root == Path("here")


def test_a_second_store_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(Store(Path("second")))
    assert open_store().load("teacher", PRINT)[0] is None
    monkeypatch.setenv("EDGECOMPRESS_STORE_READONLY", "second")
    assert open_store().load("teacher", PRINT)[0] is not None
    assert not open_store().read_only


def test_one_makes_the_store_itself_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECOMPRESS_STORE_READONLY", "1")
    assert open_store().read_only


@pytest.mark.parametrize("value", ["0", "true", "Yes", "off", " 0 "])
def test_what_looks_like_a_switch_is_asked_about(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EDGECOMPRESS_STORE_READONLY", value)
    with pytest.raises(UsageError, match=r"write 1 .* the path of a second store"):
        open_store()


@pytest.mark.parametrize("value", ["nowhere", "file", "file/below", "2"])
def test_a_second_store_has_to_be_there(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("EDGECOMPRESS_STORE_READONLY", value)
    with pytest.raises(ResourceError, match=f"EDGECOMPRESS_STORE_READONLY={value}: there is no such folder"):
        open_store()


def test_the_store_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs/.store").mkdir(parents=True)
    Path("link").symlink_to("runs/.store")
    monkeypatch.setenv("EDGECOMPRESS_STORE_READONLY", "link")
    with pytest.raises(UsageError, match="is the store itself"):
        open_store()


def test_the_key_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(open_store())
    monkeypatch.setenv("EDGECOMPRESS_STORE_KEY", "secret \udcff")
    assert open_store().seal.key == b"secret \xff"
    assert open_store().load("teacher", PRINT)[1].endswith("not sealed with the key in EDGECOMPRESS_STORE_KEY")
    assert "EDGECOMPRESS_STORE_KEY" not in without_key(os.environ)


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_an_empty_key_is_none(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("EDGECOMPRESS_STORE_KEY", key)
    with pytest.raises(UsageError, match="EDGECOMPRESS_STORE_KEY is empty"):
        open_store()
