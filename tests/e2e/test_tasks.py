"""Tasks whose answers are no classes, from a recipe to the report: numbers, anomalies, text."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.errors import ExitCode, ModelError
from edgecompress.pipeline.recheck import recheck
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store
from edgecompress.tflite.format.metadata_reader import read_files
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.e2e.stand_ins import stand_in_bert, stand_in_texts

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "to", "house", "red", "big")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def carried_out(folder: Path, store: Store, **recipe: Any) -> dict[str, Any]:
    """Runs a recipe with PTQ; gives its report."""
    asked = Recipe.model_validate(
        {"version": 1, "name": "made", "quantize": {}, "benchmark": {"runs": 10}, "base_dir": str(folder), **recipe}
    )
    done = run_pipeline(asked, output=folder / "run", store=store)
    assert (done.exit_code, done.messages) == (ExitCode.DONE, ())
    assert done.report is not None
    return done.report


def answer(folder: Path, argument: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the report's program beside the flatbuffer; gives what it prints."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["program.py", argument])
    capsys.readouterr()
    program = json.loads(Path("report.json").read_bytes())["snippet"]
    exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own program
    return capsys.readouterr().out


def test_numbers(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((400, 5)).astype(np.float32), rng.standard_normal((5, 2))
    y = (x @ weights) * np.array([10.0, 0.5]) + np.array([40.0, -2.0])
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y.astype(np.float32))
    report = carried_out(
        tmp_path, store, task="regression", data={"source": "npz", "path": "data.npz"},
        student={"model": "mlp", "args": {"width": 16, "layers": 1},
                 "train": {"epochs": 12, "batch_size": 32, "learning_rate": 0.02}},
        budget={"mae": 4.0, "r2": 0.8},
    )  # fmt: skip
    assert report["models"][-1]["accuracy"] is None
    assert report["models"][-1]["metrics"]["r2"] > 0.9
    assert report["curves"]["distill"][-1]["validation_mae"] < report["curves"]["distill"][0]["validation_mae"]
    assert report["verification"]["twin"]["p999_steps"] <= 1
    assert report["analysis"]["figure"] == "mae"
    np.save(tmp_path / "run" / "sample.npy", x[0])
    values = [
        float(line.split(": ")[1]) for line in answer(tmp_path / "run", "sample.npy", capsys, monkeypatch).splitlines()
    ]
    np.testing.assert_allclose(values, y[0], atol=4 * report["models"][-1]["metrics"]["rmse"] * 2)
    verdict = recheck(tmp_path / "run", store)
    assert (verdict["passed"], verdict["accuracy"]) == (True, None)
    assert verdict["metrics"] == pytest.approx(report["models"][-1]["metrics"])
    assert any(check["name"] == "test MAE" for check in verdict["checks"])


def test_anomalies(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    shape = rng.standard_normal((3, 20))

    def normal(count: int) -> np.ndarray:
        return (rng.standard_normal((count, 3)) @ shape + 0.1 * rng.standard_normal((count, 20))).astype(np.float32)

    bad = normal(80) + rng.standard_normal((80, 20)).astype(np.float32)
    np.savez(
        tmp_path / "data.npz", x_train=normal(400), x_test=np.concatenate([normal(80), bad]),
        y_test=np.repeat([0, 1], 80),
    )  # fmt: skip
    report = carried_out(
        tmp_path, store, task="anomaly-detection", data={"source": "npz", "path": "data.npz"},
        student={"model": "fc-autoencoder", "args": {"width": 24, "bottleneck": 4, "layers": 1},
                 "train": {"epochs": 15, "batch_size": 32, "learning_rate": 0.02}},
        budget={"auc": 90, "drop_percent": 2},
    )  # fmt: skip
    assert report["models"][-1]["metrics"]["auc"] > 95
    # The validation split is of normal samples: it tells their reconstruction alone.
    assert "validation_reconstruction_error" in report["curves"]["distill"][-1]
    assert report["models"][-1]["validation_metrics"].keys() == {"reconstruction_error"}
    assert sum(report["plots"]["scores"]["anomalous"]) == 80
    scores = []
    for name, sample in (("normal", normal(1)[0]), ("bad", bad[0])):
        np.save(tmp_path / "run" / f"{name}.npy", sample)
        scores.append(float(answer(tmp_path / "run", f"{name}.npy", capsys, monkeypatch)))
    assert scores[0] < scores[1]


def test_text(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "texts").mkdir()
    for number in range(5):
        (tmp_path / "texts" / f"{number}.txt").write_text(" ".join(rng.choice(WORDS, 300)))
    report = carried_out(
        tmp_path, store, task="language-modeling",
        data={"source": "text-files", "path": "texts", "length": 24, "tokenizer": {"kind": "char"}},
        student={"model": "transformer", "args": {"layers": 1, "heads": 2, "width": 16, "hidden": 16, "dropout": 0.0},
                 "train": {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "optimizer": "adamw"}},
        budget={"perplexity": 20, "bits_per_byte": 4},
    )  # fmt: skip
    metrics = report["models"][-1]["metrics"]
    assert metrics["bits_per_byte"] == pytest.approx(np.log2(metrics["perplexity"]))  # one byte a character here
    assert abs(metrics["bits_per_byte"] - report["models"][0]["metrics"]["bits_per_byte"]) < 0.05
    assert report["verification"]["twin"]["clear_same"] >= 99.9
    assert len(report["plots"]["sample"]["text"]) == report["plots"]["sample"]["tokens"]
    document = json.loads((tmp_path / "run" / "vocabulary.json").read_bytes())
    assert document["kind"] == "char"
    content = (tmp_path / "run" / "model.tflite").read_bytes()
    assert read_files(content)["vocab.txt"].decode().split("\n")[2 : 2 + len(document["tokens"])] == document["tokens"]
    assert set(report["files"]) == {"model.tflite", "vocabulary.json"}
    (tmp_path / "run" / "prompt.txt").write_text("the cat sat on ")
    written = answer(tmp_path / "run", "prompt.txt", capsys, monkeypatch)
    assert written.startswith("the cat sat on ")
    assert len(written.removesuffix(os.linesep)) == 15 + 200


def test_a_hugging_face_model_is_quantized_itself_but_for_its_norms(tmp_path: Path, store: Store) -> None:
    texts = [part.removeprefix("data.").split("=") for part in stand_in_texts(tmp_path)]
    report = carried_out(
        tmp_path, store, task="text-classification",
        data={"source": "csv", "text": "Text", "label": "Category", "length": 12, **dict(texts)},
        teacher={"model": f"hf/{stand_in_bert(tmp_path / 'bert')}", "args": {"length": 12}, "train": {"epochs": 1}},
        quantize={"mode": "qat", "train": {"epochs": 1}},
    )  # fmt: skip
    norms = report["quantization"]["float_norms"]
    assert [name for name in norms if name.endswith("LayerNorm")] == [
        "body.embeddings.LayerNorm",
        "body.encoder.layer.0.attention.output.LayerNorm",
        "body.encoder.layer.0.output.LayerNorm",
    ]
    census = report["verification"]["census"]
    assert not census["not_int8"]
    assert {item["dtype"] for item in census["allowed"]} == {"float32"}
    assert census["ops"]["FULLY_CONNECTED"]["dtypes"] == {"int8": 7}
    page = (tmp_path / "run" / "report.md").read_text()
    assert "Norms, and sums they read, in float32" in page
    # One row a norm, not one an operator.
    assert len([line for line in page.splitlines() if "quantize.norms |" in line]) == len(norms)


@pytest.mark.parametrize(
    ("model", "states", "runtimes"),
    [("gru", ["float32"], ["tensorflow", "tflite-micro"]), ("lstm", ["int8", "float32"], ["tflite-micro"])],
)
def test_a_recurrent_network_is_int8_but_for_its_states_also_step_by_step(
    model: str, states: list[str], runtimes: list[str], tmp_path: Path, store: Store
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    time = np.arange(4)[None, :, None] * (1 + labels[:, None, None])
    series = (np.sin(time + np.arange(3)) + rng.normal(0, 0.1, (240, 4, 3))).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=series, y_train=labels)
    recipe: dict[str, Any] = {
        "task": "timeseries-classification", "data": {"source": "npz", "path": "data.npz"},
        "student": {"model": model, "args": {"width": 8},
                    "train": {"epochs": 6, "batch_size": 32, "optimizer": "adamw", "learning_rate": 0.02}},
        "export": {"streaming": True}, "benchmark": {"runs": 10, "runtimes": ["litert", *runtimes]},
    }  # fmt: skip
    report = carried_out(tmp_path, store, **recipe)
    assert report["quantization"]["float_cells"] == ["levels.0.step"]
    assert report["streaming"]["equal"] == 100.0
    assert [one["same_answer"] for one in report["runtimes"]] == [100.0] * len(runtimes)
    census = report["verification"]["census"]
    assert not census["not_int8"]
    assert {item["why"].split(":")[0] for item in census["allowed"]} == {"quantize.cells"}
    page = (tmp_path / "run" / "report.md").read_text()
    assert "- Gates and states in float32: levels.0.step" in page
    assert "Result, INT8 with gates and states in float32" in page
    assert len([line for line in page.splitlines() if "quantize.cells |" in line]) == 1
    step = RUNTIMES["litert"].session(tmp_path / "run" / "model_step.tflite")
    assert [str(one.dtype) for one in (*step.inputs, *step.outputs)] == ["int8", *states] * 2
    assert recheck(tmp_path / "run", store)["passed"]
    whole = carried_out(tmp_path, store, **{**recipe, "benchmark": {"runs": 10}, "quantize": {"cells": "int8"}})
    assert "float_cells" not in whole["quantization"]
    assert not whole["verification"]["census"]["allowed"]
    assert whole["streaming"]["equal"] == 100.0
    assert {one["stage"]: one["status"] for one in whole["stages"]}["distill"] == "cached"


def test_texts_that_are_all_the_same_word_give_a_file_that_runs(tmp_path: Path, store: Store) -> None:
    """The state never moves, so its range is next to nothing, and that of what is computed of it is nothing."""
    rows = [f"same,{'ab'[number % 2]}" for number in range(120)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    report = carried_out(
        tmp_path, store, task="text-classification",
        data={"source": "csv", "path": "data.csv", "text": "text", "label": "label", "length": 4,
              "tokenizer": {"kind": "word", "vocabulary": 50}},
        student={"model": "gru", "args": {"width": 4, "embedding": 4},
                 "train": {"epochs": 1, "batch_size": 32, "optimizer": "adamw", "learning_rate": 0.003}},
    )  # fmt: skip
    assert report["verification"]["twin_agreement"] == 100.0
    assert report["models"][-1]["accuracy"] == 50.0


def test_series_of_one_step_cannot_be_streamed(tmp_path: Path, store: Store) -> None:
    x, y = np.random.default_rng(0).standard_normal((90, 1, 2)).astype(np.float32), np.arange(90) % 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y)
    with pytest.raises(ModelError, match="the series have one step, so there is nothing to hand on"):
        carried_out(
            tmp_path, store, task="timeseries-classification", data={"source": "npz", "path": "data.npz"},
            student={"model": "gru", "args": {"width": 4}, "train": {"epochs": 1, "batch_size": 32}},
            export={"streaming": True},
        )  # fmt: skip
