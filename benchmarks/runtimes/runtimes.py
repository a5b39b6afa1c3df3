"""Every shipped image recipe's flatbuffer on every runtime: does it run, and does it answer as on LiteRT?

    make data && .venv/bin/edgecompress doctor --install tflite-runtime
    python -m benchmarks.runtimes.runtimes  # about a quarter of an hour; finished rows are skipped

Recipes that train for an hour are trained briefly here (10,000 pictures, few epochs): kernels do not care. One row per
(recipe and runtime); "plain" is the same recipe without `quantize.portable`, "before" the versions before there was
such a thing. Latencies are in the reports.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, ROOT, Table
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.store.store import Store

PROOF = ("runs", "reason", "samples", "same_answer", "bit_exact", "max_steps", "arena_bytes", "flash_bytes")
COLUMNS = (*PROOF, "test_accuracy")
BRIEF = ("data.train_samples=10000", "teacher.train.epochs=2", "distill.train.epochs=2")
QAT = (*BRIEF, "prune.train.epochs=1", "quantize.train.epochs=1")
SPARSE = (*BRIEF, "prune.train.epochs=2", "quantize.train.epochs=1")
PLAIN = "quantize.portable=false"
#: Recipe, and what makes it another one -> what is set in it.
RECIPES: dict[str, tuple[str, ...]] = {
    "digits": (),
    "digits, plain": (PLAIN,),
    "digits-ptq": (),
    "mobilenet-v2-ptq": ("benchmark.runs=20",),
    "mobilenet-v2-ptq, plain": ("benchmark.runs=20", PLAIN),
    "fashion-mnist-qat": QAT,
    "fashion-mnist-qat, plain": (*QAT, PLAIN),
    "fashion-mnist-ptq": BRIEF,
    "fashion-mnist-ptq, plain": (*BRIEF, PLAIN),
    "fashion-mnist-sparse": SPARSE,
    "fashion-mnist-sparse, plain": (*SPARSE, PLAIN),
}
RUNTIMES = "benchmark.runtimes=[litert, tensorflow, tflite-runtime, tflite-micro]"


def run_case(name: str, store: Store) -> dict[str, dict[str, Any]]:
    """Runs a recipe and returns a row for each runtime beside LiteRT."""
    file = ROOT / "recipes" / f"{name.partition(',')[0]}.yaml"
    recipe = load_recipe(file, (RUNTIMES, "budget={}", *RECIPES[name]))
    outcome = run_pipeline(recipe, output=Path("runs/runtimes") / name.replace(", ", "-"), store=store)
    report = outcome.report
    assert report is not None
    assert report["verification"]["passed"], report["verification"]["reasons"]
    accuracy = {"test_accuracy": round(report["models"][-1]["accuracy"], 2)}
    return {
        proof["runtime"]: {**{column: proof[column] for column in PROOF}, **accuracy} for proof in report["runtimes"]
    }


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    options = parser.parse_args()
    table = Table(RESULTS / "runtimes.csv", COLUMNS)
    for name in options.recipes:
        if not table.done(f"{name} tensorflow", 0):
            for runtime, row in run_case(name, Store(options.store)).items():
                table.append(f"{name} {runtime}", 0, **row)
                print(table.rows()[-1], flush=True)
    table.show("recipe and runtime", COLUMNS)


if __name__ == "__main__":
    main()
