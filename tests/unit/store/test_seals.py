"""Whose results are believed: seals with a key and without, stores that are only read, names that lead elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecompress.errors import ResourceError
from edgecompress.store.files import is_plain_name, is_whole, sealed, write_bytes
from edgecompress.store.manifests import MANIFEST
from edgecompress.store.seals import Seal
from edgecompress.store.store import MISSING, StageResult, Store

PRINT, KEY = "ab" * 32, b"correct horse battery staple"


def finish(store: Store, stage: str = "teacher", content: bytes = b"weights") -> StageResult:
    with store.workspace(stage, PRINT) as work:
        write_bytes(work / "weights.bin", content)
        return store.finish(work, stage, PRINT, {"accuracy": 9.5}, 1.0, ())


def reseal(folder: Path, **changes: Any) -> None:
    """Does what anybody can who may write there: the plain hash is made anew."""
    path = folder / MANIFEST
    path.write_text(json.dumps(sealed({**json.loads(path.read_bytes()), **changes})))


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [root, *root.rglob("*")]
    }


def test_with_a_key_only_what_it_has_sealed_is_believed(tmp_path: Path) -> None:
    finish(Store(tmp_path))
    keyed = Store(tmp_path, key=KEY)
    untold = "manifest.json is not sealed with the key in EDGECOMPRESS_STORE_KEY"
    assert keyed.load("teacher", PRINT) == (None, untold)
    finish(keyed)
    assert keyed.load("teacher", PRINT)[0] is not None
    assert Store(tmp_path, key=b"another").load("teacher", PRINT) == (None, untold)
    # Without the key it is believed by its hash, like everything else.
    assert Store(tmp_path).load("teacher", PRINT)[0] is not None


@pytest.mark.parametrize(
    "changes", [{"metrics": {"accuracy": 99.9}}, {"hmac_sha256": "0" * 64}, {"hmac_sha256": None}, {"hmac_sha256": "é"}]
)
def test_who_has_no_key_can_change_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    keyed = Store(tmp_path, key=KEY)
    reseal(finish(keyed).folder, **changes)
    assert keyed.load("teacher", PRINT)[1] == "manifest.json is not sealed with the key in EDGECOMPRESS_STORE_KEY"


def test_a_seal_is_for_one_step(tmp_path: Path) -> None:
    """A genuine manifest in another step's place."""
    keyed = Store(tmp_path, key=KEY)
    made = finish(keyed)
    shutil.copytree(made.folder, keyed.folder("distill", PRINT))
    assert keyed.load("distill", PRINT)[1] == "made from other inputs"
    reseal(keyed.folder("distill", PRINT), stage="distill")
    assert "not sealed with the key" in keyed.load("distill", PRINT)[1]


def test_the_key_is_shown_nowhere(tmp_path: Path) -> None:
    keyed = Store(tmp_path, key=KEY)
    told = [repr(keyed.seal), str(keyed.seal), repr(keyed.seal.digest), *map(str, vars(keyed).values())]
    finish(keyed)
    told += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in told if KEY.decode() in text or KEY.hex() in text]


def test_seals_of_files_tell_the_place_and_the_key() -> None:
    digests = {Seal(key).digest(place, b"content") for key in (None, KEY, b"other") for place in ("one", "two")}
    assert len(digests) == 6


@pytest.mark.parametrize("document", [{}, [], None, 3, {"a": 1}, {"sha256": None}, {"a": float("nan"), "sha256": ""}])
def test_what_has_no_hash_of_its_own_is_not_whole(document: Any) -> None:
    assert not is_whole(document)


def test_a_second_store_is_looked_in_and_never_written(tmp_path: Path) -> None:
    second = tmp_path / "second"
    finish(Store(second))
    before = everything(second)
    store = Store(tmp_path / "own", also=second)
    result, why = store.load("teacher", PRINT)
    assert result is not None
    assert (why, result.path("weights.bin").parent.parent) == ("finished before", second)
    assert store.finished("teacher") == []  # it has no parts
    # What is not there, or damaged there, is made in the own one.
    assert store.load("distill", PRINT) == (None, MISSING)
    assert finish(store, "distill").folder.parent == tmp_path / "own"
    made = store.once("teacher", PRINT, lambda _work: pytest.fail("it is there"), lambda _note: None)
    assert made.folder.parent == second
    assert everything(second) == before
    (second / made.name / "weights.bin").write_bytes(b"damaged")
    assert store.load("teacher", PRINT)[1] == "weights.bin is damaged (its hash differs)"
    finish(store)
    assert store.load("teacher", PRINT)[0] is not None
    # The own one counts first.
    assert store.load("teacher", PRINT)[0].folder.parent == tmp_path / "own"  # type: ignore[union-attr]


def test_a_read_only_store_gives_what_it_has_and_says_what_it_lacks(tmp_path: Path) -> None:
    finish(Store(tmp_path))
    before = everything(tmp_path)
    store = Store(tmp_path, read_only=True)
    assert store.load("teacher", PRINT)[0] is not None
    store.require_writable({})
    with pytest.raises(ResourceError, match=r"is read-only \(EDGECOMPRESS_STORE_READONLY=1\).*: flatbuffer \(not made"):
        store.once("flatbuffer", PRINT, lambda _work: {}, lambda _note: None)
    with pytest.raises(ResourceError, match="read-only"):
        finish(store, "distill")
    assert everything(tmp_path) == before


names = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["..", ".", "", "/etc/passwd", "../x", "a/../../b", "a\\b", "a\0b", "x" * 300, "a/b", "\ud800"]),
)


@given(name=names)
def test_names_lead_nowhere_but_into_the_folder(name: str) -> None:
    if is_plain_name(name):
        path = Path("/some/folder") / name
        assert path.parent == Path("/some/folder")
        assert os.path.normpath(path) == str(path)
        assert "\0" not in name
        os.fsencode(path)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(name=names)
def test_a_manifest_that_names_what_lies_elsewhere_is_damaged(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "store")
    result = store.load("teacher", PRINT)[0] or finish(store)
    if name == "weights.bin":
        return
    reseal(result.folder, files={name: result.content["weights.bin"]})
    found, why = store.load("teacher", PRINT)
    assert found is None
    assert "damaged" in why or why == f"{name} is missing"
    finish(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [["weights.bin", "ab"]]}, {"files": {"weights.bin": 3}}, {"files": {"weights.bin": "AB" * 32}},
        {"files": None}, {"seconds": "1"}, {"seconds": True}, {"seconds": -1}, {"warnings": [1]}, {"warnings": "no"},
        {"metrics": []}, {"metrics": None}, {"parts": 3}, {"made_from": None}, {"made_from": {"teacher-ab": 3}},
        {"made_from": {"../x": {}}}, {"used": {"x": {"f": "3"}}}, {"used": None},
    ],
)  # fmt: skip
def test_a_manifest_of_another_shape_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    store = Store(tmp_path)
    reseal(finish(store).folder, **changes)
    result, why = store.load("teacher", PRINT)
    assert result is None
    assert why.startswith("manifest.json is damaged")


@pytest.mark.parametrize("change", [{"stage": ["teacher"]}, {"stage": "../teacher"}, {"fingerprint": 3}])
def test_a_manifest_of_another_step_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    store = Store(tmp_path)
    reseal(finish(store).folder, **change)
    assert store.load("teacher", PRINT) == (None, "made from other inputs")


def test_what_an_earlier_version_made_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = finish(store).folder / MANIFEST
    document = json.loads(path.read_bytes())
    del document["made_from"]
    path.write_text(json.dumps(sealed(document)))
    assert store.load("teacher", PRINT)[1] == "made by an earlier version, which did not keep from which files"


@pytest.mark.parametrize("kind", ["file", "manifest", "folder"])
def test_links_are_no_files_of_a_step(tmp_path: Path, kind: str) -> None:
    store = Store(tmp_path / "store")
    folder = finish(store).folder
    path = {"file": folder / "weights.bin", "manifest": folder / MANIFEST, "folder": folder}[kind]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    result, why = store.load("teacher", PRINT)
    assert result is None
    assert "link" in why or "no regular file" in why
