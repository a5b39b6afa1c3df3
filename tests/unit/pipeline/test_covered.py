"""What a stage runs is what its fingerprint covers: every function that is called is among those that it can reach."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest
import yaml

import edgecompress
from edgecompress.pipeline.branches import reach_of
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.stages.table import STAGES
from edgecompress.store.code import reached
from edgecompress.store.store import Store

ROOT = Path(edgecompress.__file__).parent
#: Rooms that speak, keep files or read recipes: no result depends on them but through what the fingerprint has anyway.
#: And who measures pruned models, which decides on nothing where parameters or MACs are the target.
APART = (
    "context", "errors", "wording", "quiet", "store", "pipeline", "recipe.schema", "recipe.data", "recipe.techniques",
    "recipe.training",
)  # fmt: skip
MEASURING = (
    "stages.pruning.yardstick", "stages.base.Workbench.float_flatbuffer", "stages.base.flatbuffer_of", "tflite.runtime",
    "tflite.format",
    "quantization.structure", "models.conversion", "models.outputs", "models.origins", "machine",
)  # fmt: skip


class Watcher:
    """Notes which functions of the program each stage calls."""

    def __init__(self) -> None:
        self.called: dict[str, set[str]] = {}
        self._stage: str | None = None
        self._names: dict[CodeType, str | None] = {}

    def around(self, stage: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            self._stage = stage
            sys.setprofile(self._note)
            threading.setprofile(self._note)
            try:
                return run(*arguments)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)  # type: ignore[arg-type]
                self._stage = None

        return watched

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and self._stage is not None:
            code = frame.f_code
            if code not in self._names:
                self._names[code] = _name_of(code)
            name = self._names[code]
            if name is not None:
                self.called.setdefault(self._stage, set()).add(name)


def _name_of(code: CodeType) -> str | None:
    """Returns the definition that a piece of code belongs to, None of other people's and of what defines things."""
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    module = ".".join(("edgecompress", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    inside = code.co_qualname.split(".<locals>")[0]
    return None if "<" in inside or (inside[:1].isupper() and "." not in inside) else f"{module}.{inside}"


TRAIN = {"epochs": 1, "batch_size": 64, "learning_rate": 0.01}
PICTURES = {
    "data": {"source": "npz", "path": "data.npz", "augment": ["shift"]},
    "teacher": {"model": "resnet8", "args": {"width": 8}, "train": TRAIN},
    "student": {"model": "resnet8", "args": {"width": 8}},
    "distill": {"views": 1, "train": TRAIN},
    "prune": {"ratio": 0.2, "of": "params", "steps": 1, "train": TRAIN},
    "quantize": {"mode": "qat", "calibration_samples": 32, "train": TRAIN, "portable": True},
}
SERIES = {
    "task": "timeseries-classification",
    "data": {"source": "npz", "path": "data.npz"},
    "student": {"model": "gru", "train": TRAIN},
    "prune": {"method": "unstructured", "ratio": 0.5, "steps": 1, "train": TRAIN},
    "quantize": {"mode": "ptq", "calibration_samples": 32, "max_drop_points": 50.0},
    "export": {"streaming": True},
}


@pytest.mark.parametrize(("blocks", "shape"), [(PICTURES, (10, 10)), (SERIES, (6, 2))], ids=["pictures", "series"])
def test_what_a_stage_calls_is_covered_by_its_fingerprint(
    blocks: dict[str, Any], shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    inputs = (rng.normal(0, 20, (160, *shape)) + 100 * labels.reshape(-1, *[1] * len(shape)) + 60).clip(0, 255)
    kind = np.float32 if "task" in blocks else np.uint8
    np.savez(
        tmp_path / "data.npz",
        x_train=inputs[:120].astype(kind), y_train=labels[:120],
        x_test=inputs[120:].astype(kind), y_test=labels[120:],
    )  # fmt: skip
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "threads": 1, "benchmark": {"runs": 10}, **blocks}))
    recipe = load_recipe(file)
    watcher = Watcher()
    for stage, run in STAGES.items():
        monkeypatch.setitem(STAGES, stage, watcher.around(stage, run))
    run_pipeline(recipe, output=tmp_path / "run", store=Store(tmp_path / "store"))
    assert set(watcher.called) == {
        stage for stage in STAGES if stage in blocks or stage in ("export", "verify", "benchmark", "distill")
    }
    for stage, called in watcher.called.items():
        covered = reached(reach_of(recipe, stage))
        assert len(called) > 20  # a watcher that sees nothing would find nothing
        apart = (*APART, *(MEASURING if stage == "prune" else ()))
        missed = {
            name for name in called - covered if not name.startswith(tuple(f"edgecompress.{one}" for one in apart))
        }
        assert not missed, f"{stage} calls what its fingerprint does not cover: {sorted(missed)}"
