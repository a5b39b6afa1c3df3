"""What `verify` believes of a folder: no names that lead out of it, no results that are another run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgecompress.errors import ResourceError
from edgecompress.pipeline.recheck import Check, _results, not_recomputed, read_run, recheck
from edgecompress.recipe.schema import Recipe
from edgecompress.store.files import sealed, sha256_file, sha256_json
from edgecompress.store.store import StageResult, Store, contents

RECIPE = Recipe.model_validate({"version": 1, "student": {"model": "resnet8"}, "quantize": {"mode": "ptq"}})
HASH = "ab" * 32


def report(**changes: Any) -> dict[str, Any]:
    row = {"key": "quantized", "accuracy": 90.0, "metrics": {"accuracy": 90.0}, "flatbuffer": {"size_bytes": 5}}
    found: dict[str, Any] = {
        "task": "image-classification", "models": [{**row, "key": "student"}, row], "files": {"model.tflite": HASH},
        "budget": {"passed": True, "lines": []}, "verdict": {"status": "good", "reasons": []}, "pages": {},
    }  # fmt: skip
    return {**found, **changes}


def write(folder: Path, told: dict[str, Any], **lock: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(sealed(told)))
    facts = {"recipe": RECIPE.model_dump(mode="json"), "base_dir": str(folder), "model_sha256": HASH}
    (folder / "recipe.lock.yaml").write_text(yaml.safe_dump({**facts, "data_sha256": HASH, "steps": {}, **lock}))
    return folder


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", "", "a\\b", "a\0b"])
def test_names_that_lead_out_of_the_folder_are_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = write(tmp_path / "run", report(files={name: sha256_file(tmp_path / "secret")}))
    found = recheck(folder, Store(tmp_path / "store"))
    assert not found["passed"]
    assert {"name": name, "passed": False, "detail": "it is no name of a file in the run's folder"} in found["checks"]
    assert "the figures of the result" in found["not_recomputed"]


@pytest.mark.parametrize(
    "lock",
    [
        {"steps": {"../../elsewhere": HASH}}, {"steps": {"export": "../x"}}, {"steps": {"export": 3}}, {"steps": [1]},
        {"content": {"nothing": HASH}}, {"content": {"export": None}}, {"model_sha256": 3}, {"data_sha256": None},
    ],
)  # fmt: skip
def test_a_lock_file_that_no_run_writes_is_refused(tmp_path: Path, lock: dict[str, Any]) -> None:
    with pytest.raises(ResourceError, match="is not what a run writes"):
        read_run(write(tmp_path / "run", report(), **lock))


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": None}, {"verdict": {"status": "splendid", "reasons": []}}, {"verdict": {"status": "good"}},
        {"verdict": {"status": "good", "reasons": ["x"]}}, {"budget": {"passed": True}}, {"budget": None},
        {"budget": {"passed": True, "lines": [{}]}}, {"models": []}, {"models": [{"metrics": {"accuracy": 9.0}}]},
        {"evidence": {"models": [{"key": 3}]}}, {"files": {"model.tflite": 3}}, {"files": []},
    ],
)  # fmt: skip
def test_a_report_that_no_run_writes_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ResourceError, match="is not what a run writes"):
        read_run(write(tmp_path / "run", report(**changes)))


def finish(store: Store, stage: str, content: str, *inputs: StageResult) -> StageResult:
    with store.workspace(stage, HASH) as work:
        (work / "file").write_text(content)
        return store.finish(work, stage, HASH, {}, 1.0, (), made_from=contents(inputs))


def test_results_that_were_made_again_since_are_not_the_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    distill = finish(store, "distill", "a student")
    quantize = finish(store, "quantize", "a twin", distill)
    lock = {
        "steps": {"distill": HASH, "quantize": HASH, "export": HASH},
        "content": {one.stage: sha256_json(one.content) for one in (distill, quantize)},
    }

    def look() -> list[tuple[str, bool | None, str]]:
        checks: list[Check] = []
        found = _results(RECIPE, lock, store, checks)
        assert sorted(found) == sorted(check.name.removeprefix("stage ") for check in checks if check.passed)
        return [(check.name, check.passed, check.detail) for check in checks]

    fine = "its files match their hashes"
    gone = ("stage export", None, "not in the store any more")
    assert look() == [("stage distill", True, fine), ("stage quantize", True, fine), gone]
    finish(store, "quantize", "another twin", distill)
    another = "the store holds another result than the run's: it was made again since"
    assert look() == [("stage distill", True, fine), ("stage quantize", None, another), gone]
    finish(store, "quantize", "a twin", finish(store, "distill", "another student"))
    finish(store, "distill", "a student")
    told = "made from another file of distill"
    assert look() == [("stage distill", True, fine), ("stage quantize", None, told), gone]
    (store.folder("distill", HASH) / "file").write_text("damaged")
    assert look()[0] == ("stage distill", False, "file is damaged (its hash differs)")


def test_what_was_not_looked_at_again_is_said() -> None:
    told = report(runtimes=[{"runtime": "tensorflow"}])
    checks = [Check("model.tflite", True, ""), Check("agreement with the twin", None, "")]
    assert not_recomputed(told, checks, scored=True) == [
        "figures and size of the student model", "latency", "training", "answers on tensorflow",
        "agreement with the twin",
    ]  # fmt: skip
