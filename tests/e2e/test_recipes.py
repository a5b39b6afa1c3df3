"""Every shipped recipe is valid, teaches, and runs: shrunk to fewer samples and epochs, through all its stages."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgecompress.errors import ExitCode
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.names import MODEL_ARGUMENTS
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store
from edgecompress.tflite.facts.inspection import inspect_flatbuffer
from tests.e2e.stand_ins import stand_in

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
#: What networks of fewer layers are asked for by; each layer takes its time through all stages.
FEWEST = {"layers": 1, "stages": 2}
TRAINS = ("teacher", "student", "distill", "prune", "quantize")


def shrunk(recipe: Recipe) -> Recipe:
    """Returns the recipe with fewer samples, epochs and steps, and without its budget, which they would miss."""
    document: dict[str, Any] = recipe.model_dump(mode="json", exclude={"budget"})
    samples = {"image-folder": (None, 4), "text-files": (3, 1), "npz": (40, 12)}  # npz: series, of many samples each
    train_samples, test_samples = samples.get(recipe.data.source, (160, 40))
    document["data"] |= {"train_samples": train_samples, "test_samples": test_samples}
    if recipe.data.image_size is not None:
        document["data"]["image_size"] = 96
    if recipe.compressed.model in ("gru", "lstm"):
        document["data"]["length"] = 24  # steps are written out, and each takes a second through all stages
    for block in (document[name] for name in ("teacher", "student") if document[name] is not None):
        takes = MODEL_ARGUMENTS.get(block["model"], {})
        block["args"].update({name: least for name, least in FEWEST.items() if name in takes})
    for block in TRAINS:
        train = (document.get(block) or {}).get("train")
        if train is not None:
            train |= {"epochs": 1, "batch_size": 32}
    if recipe.distill is not None:
        document["distill"]["views"] = 1
    if recipe.quantize is not None:
        document["quantize"]["calibration_samples"] = 16
    document["benchmark"]["runs"] = 10
    return Recipe.model_validate(document).model_copy(update={"base_dir": recipe.base_dir})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Shared, so that recipes with the same teacher train it once, as they do for users."""
    return Store(tmp_path_factory.mktemp("recipes-store"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs_shrunk(path: Path, store: Store, tmp_path: Path) -> None:
    recipe = load_recipe(path, stand_in(path, tmp_path))
    outcome = run_pipeline(shrunk(recipe), output=tmp_path / "run", store=store)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    # One epoch on a few samples may leave answers undecided, which the gate allows for: nothing else may go wrong.
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    assert report["verification"]["census"]["not_int8"] == []
    flatbuffer = report["models"][-1]["flatbuffer"]
    assert flatbuffer["overhead_bytes"] <= flatbuffer["overhead_allowance_bytes"]
    told = inspect_flatbuffer(tmp_path / "run" / "model.tflite", run=False)["tflite_metadata"]
    assert told["problem"] is None
    assert told["labels"] == (report["data"]["classes"] or None)
    assert (told["inputs"][0]["content"] == "image") == (recipe.task == "image-classification")
    wanted = {"teacher": recipe.teacher, "distill": recipe.student, "prune": recipe.prune, "quantize": recipe.quantize}
    expected = [stage for stage, block in wanted.items() if block is not None] + ["export", "verify", "benchmark"]
    assert [stage["stage"] for stage in report["stages"]] == expected


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_teaches(path: Path) -> None:
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.lstrip().startswith("#")] + [line for line in lines if " # " in line]
    assert lines[0].startswith("# ")
    assert len(comments) >= 5
    assert f"edgecompress run recipes/{path.name}" in path.read_text()
    assert yaml.safe_load(path.read_text())["version"] == 1


def test_the_shipped_recipes_are_these() -> None:
    assert {path.stem for path in RECIPES} == {
        "digits", "digits-ptq", "fashion-mnist-qat", "fashion-mnist-ptq", "fashion-mnist-sparse", "mobilenet-v2-ptq",
        "newsgroups-minilm-to-cnn", "newsgroups-transformer-to-gru", "reuters-transformer", "spoken-language",
        "tiny-lm", "watch-imu",
    }  # fmt: skip
    readme = (ROOT / "README.md").read_text()
    assert all(f"recipes/{path.name}" in readme for path in RECIPES)


def test_the_recipe_in_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGECOMPRESS_STORE", raising=False)
    section = re.search(r"^## From Python\n\n((?:    .*\n|\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert section is not None
    exec(textwrap.dedent(section[1]), {})  # noqa: S102 - our own text
    size = (tmp_path / "runs" / "small" / "model.tflite").stat().st_size
    assert capsys.readouterr().out.splitlines()[-1] == f"runs/small/model.tflite {size}"
