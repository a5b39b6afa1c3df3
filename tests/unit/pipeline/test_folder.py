"""The run's folder: what is recorded there as a run goes on, and what must not lie there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecompress.context import Event
from edgecompress.errors import ResourceError
from edgecompress.pipeline.folder import alone, recorder

BREAKS = "a\nb\rc\r\nd\x0be\x0cf\x1cg\x1dh\x1ei\x85j\u2028k\u2029l"


def test_an_event_is_one_line_whatever_it_holds(tmp_path: Path) -> None:
    with recorder(tmp_path) as record:
        record(Event("note", "teacher", {"message": BREAKS, "other": ["x\ny"], "path": Path("p\nq")}))
        record(Event("progress", "teacher", {"done": 1}))
    (line,) = (tmp_path / "run.log").read_text().splitlines()
    shown = r"a\nb\rc\r\nd\x0be\x0cf\x1cg\x1dh\x1ei\x85j\u2028k\u2029l"
    assert line.endswith(rf" teacher note message={shown} other=['x\ny'] path=p\nq")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["note", "progress"]
    assert events[0]["message"] == BREAKS


def test_events_begin_anew_and_the_log_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        with recorder(tmp_path) as record:
            record(Event("note", "", {"message": "x"}))
    assert len((tmp_path / "run.log").read_text().splitlines()) == 2
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["run.log", "events.jsonl"])
def test_logs_are_not_written_through_links(tmp_path: Path, name: str) -> None:
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    (folder / name).symlink_to(victim)
    with pytest.raises(ResourceError, match=rf"cannot write .*{name}: it is a link, not a file .* Remove it\."):
        recorder(folder).__enter__()
    assert victim.read_text() == "precious"


def test_the_folder_is_let_go_where_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_text("mine")
    with pytest.raises(ResourceError, match=r"model\.tflite"), alone(tmp_path, ["model.tflite"], None, force=False):
        pytest.fail("it was taken")
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]
