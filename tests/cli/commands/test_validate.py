"""`edgecompress validate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecompress_cli.main import invoke

GOOD = "version: 1\nteacher: {model: resnet9}\n"
BAD = GOOD + "prune: {rato: 0.5, steps: 0}\n"


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("recipes")
def test_good_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "good.yaml"]) == 0
    assert capsys.readouterr() == ("good.yaml: OK\n", "")


@pytest.mark.usefixtures("recipes")
def test_every_recipe_is_checked_and_one_bad_one_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "bad.yaml", "good.yaml", "gone.yaml"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "bad.yaml:3: prune.steps: expected a whole number from 1 to 100, found `0`",
        "bad.yaml:3: prune.rato: no such key in the block `prune` (did you mean `ratio`?)",
        "good.yaml: OK",
        "gone.yaml: no such file (in that folder: bad.yaml, good.yaml)",
    ]


@pytest.mark.usefixtures("recipes")
def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "--json", "good.yaml", "bad.yaml"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    good, bad = document["recipes"]
    assert good == {"file": "good.yaml", "ok": True, "name": "good", "problems": []}
    assert [problem["key"] for problem in bad["problems"]] == ["prune.steps", "prune.rato"]
    assert bad["problems"][1] | {"message": ""} == {
        "file": "bad.yaml", "line": 3, "key": "prune.rato", "message": "", "hint": "did you mean `ratio`?"
    }  # fmt: skip
    assert invoke(["validate", "--json", "good.yaml"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


@pytest.mark.usefixtures("recipes")
def test_overrides_are_checked_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "bad.yaml", "--set", "prune=null"]) == 0
    assert invoke(["validate", "good.yaml", "--set", "seed=x", "--set", "name=other"]) == 2
    assert "--set: seed: expected a whole number" in capsys.readouterr().out
