"""`edgecompress plan`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecompress.pipeline.plan import make_plan
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.store.store import Store
from edgecompress_cli.main import invoke

Capture = pytest.CaptureFixture[str]
RECIPE = "version: 1\nteacher: {model: resnet9}\nstudent: {model: resnet8}\ndistill: {}\nquantize: {mode: ptq}\n"


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGECOMPRESS_STORE", raising=False)
    monkeypatch.setattr("edgecompress.data.loading.fingerprint", lambda recipe, *, trust: "ab" * 32)
    Path("r.yaml").write_text(RECIPE)


def finish_teacher() -> str:
    store = Store(Path("runs/.store"))
    step = make_plan(load_recipe(Path("r.yaml")), store).steps[0]
    with store.workspace(step.stage, step.fingerprint) as work:
        store.finish(work, step.stage, step.fingerprint, {}, 1.0, ())
    return step.fingerprint


def test_steps_and_what_is_cached(capsys: Capture) -> None:
    fingerprint = finish_teacher()
    assert invoke(["plan", "r.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    steps, trains = out.split("\n\n")
    header, teacher, distill, *rest = steps.splitlines()
    assert header.split() == ["stage", "status", "why", "fingerprint"]
    assert teacher.split("  ")[0] == "teacher"
    assert teacher.split()[1:] == ["cached", "finished", "before", fingerprint[:12]]
    assert "to do   not made yet" in distill
    assert [line.split()[0] for line in rest] == ["quantize", "export", "verify", "benchmark"]
    assert all("follows distill" in line for line in rest)
    assert trains.splitlines() == [
        "Trainings",
        "stage    epochs                      batch size                optimizer       learning rate",
        "teacher  15 or more, by the samples  8 to 256, by the samples  by the network  by all these",
        "distill  20 or more, by the samples  8 to 256, by the samples  by the network  by all these",
    ]


def test_json_is_one_document(capsys: Capture) -> None:
    assert invoke(["plan", "r.yaml", "--json", "--set", "name=other"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert (document["recipe"], document["name"], document["data_sha256"]) == ("r.yaml", "other", "ab" * 32)
    assert [step["stage"] for step in document["steps"]][:2] == ["teacher", "distill"]
    assert {step["status"] for step in document["steps"]} == {"to do"}
    assert document["sizes"] == []
    assert [one["stage"] for one in document["trainings"]] == ["teacher", "distill"]


def test_what_a_recipe_says_of_its_trainings_is_shown(capsys: Capture) -> None:
    more = ["--set", "teacher.train.batch_size=64", "--set", "train.epochs=3", "--set", "train.learning_rate=0.05"]
    assert invoke(["plan", "r.yaml", "--json", "--set", "quantize.mode=qat", "--set", "prune={}", *more]) == 0
    found = {one["stage"]: list(one.values())[1:] for one in json.loads(capsys.readouterr().out)["trainings"]}
    size = "8 to 256, by the samples"
    assert found == {
        "teacher": ["3", "64", "by the network", "0.05"],
        "distill": ["3", size, "by the network", "0.05"],
        "prune": ["3", size, "by the network", "0.01"],
        "quantize": ["3", size, "adam", "by all these"],
    }


def test_another_store(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    finish_teacher()
    monkeypatch.setenv("EDGECOMPRESS_STORE", "elsewhere")
    assert invoke(["plan", "r.yaml", "--json"]) == 0
    assert {step["status"] for step in json.loads(capsys.readouterr().out)["steps"]} == {"to do"}


@pytest.mark.slow
def test_predicted_sizes(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    row = {
        "key": "teacher", "label": "teacher resnet9", "params": 1_654_890, "macs": 91_234_816,
        "float_bytes": 6_634_512, "int8_bytes": 1_700_000,
    }  # fmt: skip
    seen: list[Any] = []

    def predict(_recipe: Any, ctx: Any, store: Any) -> list[dict[str, Any]]:
        seen.append((ctx.trust, store.root))
        return [row]

    trained = {"stage": "teacher", "epochs": 15, "batch_size": 256, "optimizer": "sgd", "learning_rate": 0.1}
    monkeypatch.setattr("edgecompress.stages.before.sizes.predict_sizes", predict)
    monkeypatch.setattr("edgecompress.stages.before.sizes.settled_trainings", lambda *_: [trained])
    assert invoke(["plan", "r.yaml", "--sizes", "--trust"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Predicted sizes (flatbuffers, before anything is trained)" in lines
    assert "teacher  15      256         sgd        0.1" in lines
    assert lines[-1] == "teacher resnet9   1,654,890  91,234,816   6,479.0   1,660.2"
    assert seen == [(True, Path("runs/.store"))]
    assert invoke(["plan", "r.yaml", "--sizes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"] == [row]


def test_recipe_that_cannot_be_used(capsys: Capture) -> None:
    Path("r.yaml").write_text("version: 1\nteacher: {modle: resnet9}\n")
    assert invoke(["plan", "r.yaml"]) == 2
    assert "r.yaml:2: teacher.modle" in capsys.readouterr().err
    assert invoke(["plan", "r.yaml", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["error"]["kind"]) == (False, "recipe")


def test_what_user_code_prints_does_not_get_into_the_json(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def chatty(_recipe: Any, *, trust: bool) -> str:
        sys.stdout.write("loading my data\n")
        os.write(1, b"native code\n")
        return "ab" * 32

    monkeypatch.setattr("edgecompress.data.loading.fingerprint", chatty)
    assert invoke(["plan", "r.yaml", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["ok"] is True
    assert "loading my data" in err
    assert "native code" in err
