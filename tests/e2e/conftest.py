"""Small recipes that go through every stage, the real converter and the real interpreters in seconds."""

from __future__ import annotations

import functools
import io
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgecompress.pipeline import making
from edgecompress.pipeline.making import Asked
from edgecompress.pipeline.plan import Plan, Step
from edgecompress.pipeline.run import Outcome, run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.schema import BenchmarkSpec
from edgecompress.report import document
from edgecompress.report.forms import require_form
from edgecompress.stages import verify
from edgecompress.stages.before import preflight
from edgecompress.stages.verifying import analysis
from edgecompress.store.store import StageResult, Store
from edgecompress.tflite.runtime import latency

TRAIN = {"epochs": 2, "batch_size": 32, "learning_rate": 0.05}


@pytest.fixture(autouse=True)
def _short_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at every layer takes half of such a run's time: here it looks at as few samples and layers as it may."""
    monkeypatch.setattr(verify, "analyse_run", partial(analysis.analyse_run, effort=1.0))
    monkeypatch.setattr(analysis, "COMMAND_EFFORT", 1.0)


@pytest.fixture(autouse=True)
def _no_time_for_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads these latencies, which are of files not warmed up, nor looks at these pictures, which are one."""
    monkeypatch.setattr(latency, "WARM_UP_S", 0.0)
    monkeypatch.setattr(document, "picture", lambda _report: one_picture())


@pytest.fixture(autouse=True)
def _children_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreters in processes of their own import a lot; what they run of ours tests/unit/tflite/runtime counts."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@functools.cache
def one_picture() -> bytes:
    """Returns a real PNG; tests/unit/report/test_picture.py has those of reports."""
    from matplotlib.figure import Figure

    content = io.BytesIO()
    Figure(figsize=(1, 1)).savefig(content, format="png")
    return content.getvalue()


@pytest.fixture(autouse=True)
def _networks_known_to_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is converted before training: these networks can be; tests/unit/stages/before has others."""
    monkeypatch.setattr(preflight, "networks", lambda _bench: [])


@pytest.fixture(autouse=True)
def _every_result_has_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage leaves must pass where a later run takes it from the store, or it would be made again each time."""
    make = making._make_alone

    def made(step: Step, plan: Plan, work: Any, asked: Asked) -> StageResult:
        result = make(step, plan, work, asked)
        require_form(result, asked.recipe)
        return result

    monkeypatch.setattr(making, "_make_alone", made)


def stripes(path: Path, count: int = 360) -> None:
    """Writes an npz of 12x12 grey pictures in three classes a small net learns in two epochs: rows, columns, noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    noise = rng.integers(0, 90, (count, 12, 12)).astype(np.uint8)
    pattern = np.zeros((12, 12), np.uint8)
    pattern[::2] = 150
    pictures = (
        noise
        + np.where((labels == 0)[:, None, None], pattern, 0)
        + np.where((labels == 1)[:, None, None], pattern.T, 0)
    )
    cut = count * 2 // 3
    np.savez(
        path,
        x_train=pictures[:cut].astype(np.uint8),
        y_train=labels[:cut],
        x_test=pictures[cut:].astype(np.uint8),
        y_test=labels[cut:],
        class_names=np.array(["rows", "columns", "noise"]),
    )


def small_recipe() -> dict[str, Any]:
    """Returns a recipe with every stage."""
    return {
        "version": 1,
        "threads": 1,
        "data": {"source": "npz", "path": "stripes.npz", "augment": ["flip"]},
        "teacher": {"model": "resnet8", "args": {"width": 16, "stages": 2}, "train": TRAIN},
        "student": {"model": "resnet8", "args": {"width": 8, "stages": 2}},
        "distill": {"views": 2, "train": TRAIN},
        "prune": {"ratio": 0.2, "of": "params", "steps": 2, "round_to": 4, "train": TRAIN},
        "quantize": {"mode": "qat", "calibration_samples": 64, "train": {**TRAIN, "learning_rate": 0.005}},
        "benchmark": {"runs": 10},
        "budget": {"size_kib": 200},
    }


@pytest.fixture(autouse=True)
def _latencies_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruned models are not timed in tests: a flatbuffer takes as long as it has bytes, a nanosecond each."""

    def timed(paths: Mapping[str, Path], _spec: BenchmarkSpec, _runs: int) -> dict[str, tuple[float, float]]:
        sizes = {label: path.stat().st_size for label, path in paths.items()}
        first = next(iter(sizes.values()))
        return {label: (1e-6 * size, size / first) for label, size in sizes.items()}

    monkeypatch.setattr("edgecompress.stages.pruning.yardstick.timed", timed)


@pytest.fixture(scope="session")
def shared_store(session_folder: Path) -> Store:
    """A store that all tests of a session share, in both workers: what one trained, another reuses.

    A test about what is made again, or one that does harm, takes `own_store`.
    """
    return Store(session_folder / "store")


@pytest.fixture
def kitchen(tmp_path: Path) -> Path:
    """A folder with data and a recipe in it."""
    stripes(tmp_path / "stripes.npz")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_recipe()))
    return tmp_path


@pytest.fixture
def cook(kitchen: Path, shared_store: Store) -> Callable[..., Outcome]:
    """Runs the small recipe with some keys overridden."""

    def cooked(*overrides: str, output: str = "run", store: Store | None = None, **options: Any) -> Outcome:
        recipe = load_recipe(kitchen / "small.yaml", overrides)
        return run_pipeline(recipe, output=kitchen / output, store=store or shared_store, **options)

    return cooked


@pytest.fixture
def own_store(cook: Callable[..., Outcome], shared_store: Store, tmp_path: Path) -> Store:
    """A store for this test alone: the stages of the small recipe, no other ones, flatbuffers and soft targets."""
    steps = [shared_store.folder(step.stage, step.fingerprint) for step in cook(output="shared").plan.steps]
    store = Store(tmp_path / "own-store")
    beside = [*shared_store.root.glob("flatbuffer-*"), *shared_store.root.glob("soft-targets-*")]
    for folder in [*steps, *beside]:
        shutil.copytree(folder, store.root / folder.name)
    return store
