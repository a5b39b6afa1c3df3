"""Files are whole or absent, finished steps are recognised, damage is noticed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError
from edgecompress.store.files import sha256_file, sha256_json, write_bytes, write_json
from edgecompress.store.store import MANIFEST, StageResult, Store
from tests.shared.processes import HUNG_S, wait_for

PRINT = "ab" * 32


def finished(store: Store) -> Path:
    with store.workspace("teacher", PRINT) as work:
        write_bytes(work / "weights.bin", b"weights")
        result = store.finish(work, "teacher", PRINT, {"accuracy": 9.5}, 1.25, ("careful",))
    return result.folder


def rewrite(folder: Path, before: bytes, after: bytes) -> None:
    path = folder / MANIFEST
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after))


def without(folder: Path, key: str) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_bytes())
    del manifest[key]
    path.write_text(json.dumps(manifest))


def test_a_manifest_with_keys_that_json_writes_otherwise_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.workspace("teacher", PRINT) as work:
        store.finish(work, "teacher", PRINT, {"sizes": (1, 2), "by_layer": {10: 1, 9: 0.1}}, 1.0, ())
    assert store.load("teacher", PRINT)[1] == "finished before"


def test_a_finished_step_comes_back_with_everything(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.load("teacher", PRINT) == (None, "not made yet")
    folder = finished(store)
    result, why = store.load("teacher", PRINT)
    assert result is not None
    assert why == "finished before"
    assert result.metrics == {"accuracy": 9.5}
    assert result.seconds == 1.25
    assert result.warnings == ("careful",)
    assert result.path("weights.bin").read_bytes() == b"weights"
    assert result.artifacts["weights.bin"].sha256 == sha256_file(folder / "weights.bin")
    assert result.artifacts["weights.bin"].size_bytes == 7
    assert not list(tmp_path.glob(".*partial"))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda folder: (folder / "weights.bin").write_bytes(b"weightz"), "damaged"),
        (lambda folder: (folder / "weights.bin").unlink(), "missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "cannot be read"),
        (lambda folder: (folder / MANIFEST).unlink(), "not made yet"),
        (lambda folder: rewrite(folder, b"9.5", b"9.4"), "manifest.json is damaged"),
        (lambda folder: rewrite(folder, b"careful", b"carefun"), "manifest.json is damaged"),
        (lambda folder: rewrite(folder, b"weights.bin", b"weights.bio"), "manifest.json is damaged"),
        (lambda folder: (folder / MANIFEST).write_text(json.dumps({"fingerprint": "x", "files": {}})), "other inputs"),
        (lambda folder: without(folder, "sha256"), "manifest.json is damaged"),
    ],
)
def test_damage_is_noticed_and_named(tmp_path: Path, harm, why: str) -> None:
    store = Store(tmp_path)
    harm(finished(store))
    result, reason = store.load("teacher", PRINT)
    assert result is None
    assert why in reason


def test_an_unfinished_step_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def work_and_be_interrupted() -> None:
        with store.workspace("teacher", PRINT) as work:
            write_bytes(work / "half", b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_and_be_interrupted()
    assert list(tmp_path.iterdir()) == []


def test_finishing_again_replaces_what_was_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (finished(store) / "weights.bin").write_bytes(b"broken")
    finished(store)
    assert store.load("teacher", PRINT)[0] is not None


def test_writing_replaces_whole_files_and_leaves_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"b": 1, "a": [2]})
    first = path.read_bytes()
    write_json(path, {"a": [2], "b": 1})
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_refusing_file_system_is_a_clear_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(ResourceError, match="cannot write"):
        write_bytes(blocker / "below", b"x")
    with pytest.raises(ResourceError, match="EDGECOMPRESS_STORE"), Store(blocker).workspace("teacher", PRINT):
        pass


def test_json_hashes_ignore_the_order_of_keys_only() -> None:
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    assert sha256_json([1, 2]) != sha256_json([2, 1])


def test_what_several_runs_need_is_made_once(tmp_path: Path) -> None:
    store, made, notes = Store(tmp_path), list[int](), list[str]()
    began, may_end = threading.Event(), threading.Event()

    def make(work: Path) -> dict[str, int]:
        made.append(1)
        (work / "file").write_text("content")
        began.set()
        assert may_end.wait(HUNG_S)
        return {"figure": 7}

    results: list[StageResult] = []
    threads = [
        threading.Thread(target=lambda: results.append(store.once("flatbuffer", PRINT, make, notes.append)))
        for _ in range(2)
    ]
    threads[0].start()
    assert began.wait(HUNG_S)
    threads[1].start()
    wait_for(lambda: notes, "the second one's note that it waits")
    may_end.set()
    for thread in threads:
        thread.join(HUNG_S)
    assert made == [1]
    assert [result.metrics for result in results] == [{"figure": 7}] * 2
    assert "is making the flatbuffer already" in notes[0]
    assert store.once("flatbuffer", PRINT, make, notes.append).path("file").read_text() == "content"
    assert len(notes) == 1


def test_shared_steps_that_are_damaged_are_named_and_made_again(tmp_path: Path) -> None:
    store, notes = Store(tmp_path), list[str]()

    def make(work: Path) -> dict[str, int]:
        (work / "file").write_text("content")
        return {}

    store.once("flatbuffer", PRINT, make, notes.append).path("file").write_text("damage")
    assert store.once("flatbuffer", PRINT, make, notes.append).path("file").read_text() == "content"
    (note,) = notes
    assert "file is damaged (its hash differs). It is made again" in note


def test_figures_that_are_no_numbers_are_left_out_and_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    figures = {"loss": float("nan"), "layers": [{"steps": float("inf")}, {"steps": 2.0}], "sizes": (1, -float("inf"))}
    with store.workspace("verify", PRINT) as work:
        result = store.finish(work, "verify", PRINT, figures, 1.0, ("careful",))
    assert result.metrics == {"loss": None, "layers": [{"steps": None}, {"steps": 2.0}], "sizes": [1, None]}
    assert result.warnings[0] == "careful"
    assert "infinite or undefined: loss, layers.steps, sizes." in result.warnings[1]
    write_json(tmp_path / "plot.json", {"values": [1.0, float("nan")]})
    assert json.loads((tmp_path / "plot.json").read_text()) == {"values": [1.0, None]}
