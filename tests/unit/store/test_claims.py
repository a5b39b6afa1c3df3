"""Whose the files in a run's folder are: what runs have written, also those that were killed, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError
from edgecompress.store.claims import RECORD, Claim
from edgecompress.store.files import sealed

NAMES = ("model.tflite", "model.safetensors", "report.json", "report.md")
LOG_LINE = "2026-12-01T02:53:09+00:00 run run-start stages=[]\n"
EVENT = '{"at_s": 0.001, "kind": "run-start", "stage": "", "stages": []}\n'


def claim(folder: Path, recipe: Path | None = None, *, force: bool = False) -> Claim:
    return Claim(folder, NAMES, recipe, force=force)


def recorded(folder: Path) -> set[str]:
    return set(json.loads((folder / RECORD).read_text())["files"])


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != RECORD}


@pytest.mark.parametrize("name", [*NAMES, "run.log", "events.jsonl", RECORD])
def test_files_of_others_are_refused_and_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ResourceError, match=rf"no run of edgecompress has written .*: {name}\. .*--output, .*--force"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_what_is_no_file_is_nobodys(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.tflite"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("report.md" if kind == "dangling" else "/dev/zero")
    with pytest.raises(ResourceError, match="has written there"):
        claim(tmp_path)


def test_a_folder_in_a_files_place_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").mkdir()
    for force in (False, True):
        with pytest.raises(ResourceError, match="is a folder, where a run writes a file"):
            claim(tmp_path, force=force)


def test_force_goes_on_and_what_is_overwritten_is_ours_from_then_on(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_text("mine")
    claim(tmp_path, force=True)
    assert "model.tflite" in recorded(tmp_path)
    claim(tmp_path)
    assert (tmp_path / "model.tflite").read_text() == "mine"  # until the run writes its own


def test_other_names_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".notes.partial").write_text("mine")
    (tmp_path / ".notes.abcdefgh.partial").write_text("mine")
    (tmp_path / ".report.md.short.partial").write_text("mine")
    os.mkfifo(tmp_path / ".report.md.aaaaaaaa.partial")
    (tmp_path / ".report.md.abcdefg_.partial").write_text("half")
    claim(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "notes.txt", ".notes.partial", ".notes.abcdefgh.partial", ".report.md.short.partial",
        ".report.md.aaaaaaaa.partial", RECORD,
    }  # fmt: skip


@pytest.mark.parametrize("killed_after", range(len(NAMES) + 2))
def test_a_run_that_was_killed_knows_its_files_again(tmp_path: Path, killed_after: int) -> None:
    first = claim(tmp_path)
    (tmp_path / "run.log").write_text("anything")
    if killed_after:
        first.before_writing()
        for name in NAMES[: killed_after - 1]:
            (tmp_path / name).write_text("half of a result")
    again = claim(tmp_path)
    again.before_writing()
    for name in NAMES:
        (tmp_path / name).write_text("result")
    again.written(NAMES)
    claim(tmp_path)
    assert recorded(tmp_path) == {*NAMES, "run.log", "events.jsonl"}


def test_what_is_put_there_after_a_run_is_not_ours(tmp_path: Path) -> None:
    first = claim(tmp_path)
    first.before_writing()
    (tmp_path / "model.tflite").write_text("result")
    first.written(["model.tflite"])
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(ResourceError, match=r"overwrite: model\.safetensors\."):
        claim(tmp_path)


def test_what_is_put_there_during_a_run_is_not_overwritten(tmp_path: Path) -> None:
    first = claim(tmp_path)
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(ResourceError, match=r"overwrite: report\.md\."):
        first.before_writing()


def test_our_own_file_that_was_edited_is_still_ours(tmp_path: Path) -> None:
    first = claim(tmp_path)
    first.before_writing()
    first.written(["report.md"])
    (tmp_path / "report.md").write_text("edited")
    claim(tmp_path)
    assert "report.md" in recorded(tmp_path)
    assert content(tmp_path) == {"report.md": "edited"}


def test_runs_of_before_there_was_a_record_are_known(tmp_path: Path) -> None:
    report = {"edgecompress": "0", "files": {"model.tflite": "ab"}, "pages": {"report.md": "cd"}}
    for name in ("model.tflite", "report.md"):
        (tmp_path / name).write_text("result")
    (tmp_path / "report.json").write_text(json.dumps(sealed(report)))
    (tmp_path / "run.log").write_text("older than any form")
    claim(tmp_path)
    assert recorded(tmp_path) == {"model.tflite", "report.md", "report.json", "run.log", "events.jsonl"}


@pytest.mark.parametrize("document", ["{}", "[]", "{", '{"files": 5, "pages": {}, "edgecompress": ""}'])
def test_reports_of_others_prove_nothing(tmp_path: Path, document: str) -> None:
    (tmp_path / "report.json").write_text(document)
    with pytest.raises(ResourceError, match=r"overwrite: report\.json\."):
        claim(tmp_path)


def test_logs_of_runs_that_got_no_further_are_known_by_how_they_begin(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(LOG_LINE)
    (tmp_path / "events.jsonl").write_text(EVENT)
    claim(tmp_path)
    before = content(tmp_path)
    (tmp_path / RECORD).unlink()
    (tmp_path / "run.log").write_text("")  # it was killed before the first line
    claim(tmp_path)
    assert content(tmp_path) == {**before, "run.log": ""}


@pytest.mark.parametrize("files", [5, [5], None, {"a": 1}])
def test_a_record_that_is_none_proves_nothing(tmp_path: Path, files: object) -> None:
    (tmp_path / RECORD).write_text(json.dumps(sealed({"files": files, "recipe": ""})))
    with pytest.raises(ResourceError, match=r"overwrite: \.edgecompress"):
        claim(tmp_path)


def test_a_damaged_record_is_made_anew_where_the_report_is_whole(tmp_path: Path) -> None:
    report = {"edgecompress": "0", "files": {"model.tflite": "ab"}, "pages": {}}
    (tmp_path / "report.json").write_text(json.dumps(sealed(report)))
    (tmp_path / RECORD).write_text("{")
    claim(tmp_path)
    assert json.loads((tmp_path / RECORD).read_text())["files"] == ["events.jsonl", "report.json", "run.log"]


def test_a_link_is_followed_to_an_empty_folder_or_a_run_only(tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.mkdir()
    link.symlink_to(there)
    claim(link)
    claim(link)
    (there / RECORD).unlink()
    (there / "letters.txt").write_text("mine")
    with pytest.raises(ResourceError, match=r"is a link to .*there, which holds files, but no run"):
        claim(link)
    claim(link, force=True)


def test_another_recipe_does_not_replace_a_run_unsaid(tmp_path: Path) -> None:
    folder, one, other = tmp_path / "run", tmp_path / "one.yaml", tmp_path / "other.yaml"
    folder.mkdir()
    one.write_text("")
    other.write_text("")
    assert claim(folder, one).doubts == ()
    assert claim(folder, one).doubts == ()
    assert claim(folder, None).doubts == ()
    (doubt,) = claim(folder, other).doubts
    assert f"what the recipe {one} has left, and this run replaces it" in doubt
    assert claim(folder, other).doubts == ()
    other.rename(tmp_path / "moved.yaml")
    assert claim(folder, tmp_path / "moved.yaml").doubts == ()
