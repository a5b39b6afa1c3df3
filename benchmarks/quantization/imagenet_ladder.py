"""torchvision's MobileNetV2 with its ImageNet weights: plain PTQ beside the ladder, on the 20 labelled pictures.

    make data && python -m benchmarks.quantization.imagenet_ladder  # half an hour on a core; finished rows are skipped

Calibrated on crops of other photographs, on which the ladder also tells how far it has to climb: there are no
validation labels. Figures compare the INT8 flatbuffer with the float32 one, on the 20 test pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import RESULTS, ROOT, Table
from edgecompress.context import Context
from edgecompress.pipeline.plan import make_plan
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.stages.base import Workbench
from edgecompress.stages.verifying.gate import score
from edgecompress.store.store import Store
from edgecompress.training.evaluate import outputs_of

COLUMNS = ("exit_code", "same_of_20", "mean_cosine", "int8_right", "float_right", "rungs", "size_bytes", "minutes")
#: Case -> what is set in the recipe.
CASES: dict[str, tuple[str, ...]] = {
    "plain": ("quantize.portable=false",),
    "ladder": ("quantize.portable=false", "quantize.max_drop_points=1"),
    "portable": (),
    "portable, ladder": ("quantize.max_drop_points=1",),
}


def cosines(outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the cosine between two sets of logits, row by row."""
    product = np.linalg.norm(outputs, axis=1) * np.linalg.norm(reference, axis=1)
    found: NDArray[np.float32] = (outputs * reference).sum(1) / product
    return found


def run_case(case: str, store: Store) -> dict[str, Any]:
    """Runs the recipe and returns its row."""
    recipe = load_recipe(ROOT / "recipes" / "mobilenet-v2-ptq.yaml", CASES[case])
    folder = Path("runs") / f"imagenet-{case}"
    outcome = run_pipeline(recipe, output=folder, store=store)
    report = outcome.report
    assert report is not None
    steps = make_plan(recipe, store).steps
    bench = Workbench(
        recipe, Context(recipe.seed), store, {step.stage: step.result for step in steps if step.result is not None}
    )
    test = bench.dataset.test
    floats = outputs_of(bench.load("teacher"), bench.task, test.inputs, bench.device)
    found = score(bench, folder / "model.tflite")
    return {
        "exit_code": int(outcome.exit_code),
        "same_of_20": int((found.argmax(1) == floats.argmax(1)).sum()),
        "mean_cosine": round(float(cosines(found, floats).mean()), 5),
        "int8_right": int((found.argmax(1) == test.labels).sum()),
        "float_right": int((floats.argmax(1) == test.labels).sum()),
        "rungs": " ".join(
            f"{rung['name']}:{rung['drop_points']:.1f}" for rung in report["quantization"].get("rungs", [])
        ),
        "size_bytes": report["models"][-1]["flatbuffer"]["size_bytes"],
        "minutes": round(sum(stage["seconds"] for stage in report["stages"]) / 60, 1),
    }


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    options = parser.parse_args()
    table = Table(RESULTS / "imagenet_ladder.csv", COLUMNS)
    for case in options.cases:
        if not table.done(case, 0):
            table.append(case, 0, **run_case(case, Store(options.store)))
            print(table.rows()[-1], flush=True)
    table.show("case", COLUMNS)


if __name__ == "__main__":
    main()
