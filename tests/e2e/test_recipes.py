"""Every shipped recipe is valid, teaches, and runs: shrunk to fewer samples and epochs, through all its stages."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from compress.artifact import Store
from compress.data.fashion_mnist import FOLDERS
from compress.errors import ExitCode
from compress.pipeline import run_pipeline
from compress.recipe import Recipe
from compress.recipe_yaml import load_recipe
from compress.tflite.inspection import inspect_flatbuffer

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TRAINS = ("teacher", "student", "distill", "prune", "quantize")


def shrunk(recipe: Recipe) -> Recipe:
    """Returns the recipe with fewer samples and epochs and without its budget, which they would miss."""
    document: dict[str, Any] = recipe.model_dump(mode="json", exclude={"budget"})
    document["data"] |= {"test_samples": 40 if recipe.data.source != "image-folder" else 4}
    if recipe.data.source != "image-folder":
        document["data"]["train_samples"] = 160
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


def stand_in_fashion_mnist(folder: Path) -> Path:
    """Writes files in Fashion-MNIST's format with other pictures, for machines where the real ones cannot be had."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 400), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pictures = (rng.integers(0, 60, (count, 28, 28)) + 15 * labels[:, None, None]).astype(np.uint8)
        head = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pictures.tobytes()))
        head = np.array([0x801, count], ">i4").tobytes()
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + labels.tobytes()))
    return folder


def stand_in_imagenet(folder: Path) -> tuple[Path, Path]:
    """Writes pictures in the layout of `make data`, and MobileNetV2 weights for their classes."""
    from safetensors.torch import save_file

    from compress.models.torchvision_import import import_torchvision

    rng = np.random.default_rng(0)
    for name in ("test/0", "test/1", "calibration"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / "classes.txt").write_text("".join(f"{number} something\n" for number in range(1000)))
    weights = folder / "weights.safetensors"
    save_file(import_torchvision().models.mobilenet_v2(num_classes=1000).state_dict(), weights)
    return folder, weights


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Shared, so that recipes with the same teacher train it once, as they do for users."""
    return Store(tmp_path_factory.mktemp("recipes-store"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs_shrunk(path: Path, store: Store, tmp_path: Path) -> None:
    recipe = load_recipe(path, ())
    if recipe.data.source == "fashion-mnist" and not FOLDERS[0].is_dir():
        recipe = load_recipe(path, [f"data.path={stand_in_fashion_mnist(tmp_path)}"])
    if (
        recipe.data.source == "image-folder"
        and not Path(recipe.base_dir, recipe.data.path or "", "classes.txt").is_file()
    ):
        folder, weights = stand_in_imagenet(tmp_path / "pictures")
        recipe = load_recipe(path, [f"data.path={folder}", f"teacher.weights={weights}"])
    outcome = run_pipeline(shrunk(recipe), output=tmp_path / "run", store=store)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    # One epoch on a few samples may leave answers undecided, which the gate allows for: nothing else may go wrong.
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    assert report["verification"]["census"]["not_int8"] == []
    flatbuffer = report["models"][-1]["flatbuffer"]
    assert flatbuffer["overhead_bytes"] <= flatbuffer["overhead_allowance_bytes"]
    told = inspect_flatbuffer(tmp_path / "run" / "model.tflite", run=False)["tflite_metadata"]
    assert (told["problem"], told["labels"]) == (None, report["data"]["classes"])
    assert told["inputs"][0]["content"] == "image"
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
    }  # fmt: skip
    readme = (ROOT / "README.md").read_text()
    assert all(f"recipes/{path.name}" in readme for path in RECIPES)
