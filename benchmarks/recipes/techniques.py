"""Does each technique earn its place? Fashion-MNIST, 20,000 training images, three seeds, the whole test split.

    python -m benchmarks.recipes.techniques  # about 40 minutes on two cores; finished rows are skipped

Every case is a recipe. All share one teacher architecture; teacher, soft targets and dense students are trained once
per seed, because the runs share a store. Rows go to results/techniques.csv; `--summary` prints the docs' table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, Table, mean_and_spread
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store

SAMPLES = 20_000
COLUMNS = (
    "float_accuracy",
    "int8_accuracy",
    "validation_accuracy",
    "size_bytes",
    "gzip_bytes",
    "latency_ms",
    "dense_latency_ms",
    "macs",
)
EPOCHS = 8
TRAIN = {"epochs": EPOCHS, "batch_size": 128}
DATA = {"source": "fashion-mnist", "augment": ["shift", "flip"], "train_samples": SAMPLES}
TEACHER = {"model": "resnet9", "args": {"width": 16}, "train": TRAIN}
STUDENT: dict[str, Any] = {"model": "resnet8", "args": {"width": 16}}
DISTILL = {"alpha": 0.9, "temperature": 4.0, "train": TRAIN}
PRUNE = {"method": "structured", "ratio": 0.4, "of": "macs", "steps": 3, "train": {"epochs": 5, "batch_size": 128}}
PTQ = {"mode": "ptq"}
QAT = {"mode": "qat", "train": {"epochs": 3, "batch_size": 128}}

#: Case -> the blocks of its recipe.
CASES: dict[str, dict[str, Any]] = {
    "labels-ptq": {"student": {**STUDENT, "train": TRAIN}, "quantize": PTQ},
    "distilled-ptq": {"teacher": TEACHER, "student": STUDENT, "distill": DISTILL, "quantize": PTQ},
    "distilled-qat": {"teacher": TEACHER, "student": STUDENT, "distill": DISTILL, "quantize": QAT},
    # Eight epochs over two stored views: each is seen four times, as a long training sees eight views.
    "two-views-ptq": {"teacher": TEACHER, "student": STUDENT, "distill": {**DISTILL, "views": 2}, "quantize": PTQ},
    "online-teacher-ptq": {"teacher": TEACHER, "student": STUDENT, "distill": {**DISTILL, "views": 0}, "quantize": PTQ},
    "pruned-qat": {"teacher": TEACHER, "student": STUDENT, "distill": DISTILL, "prune": PRUNE, "quantize": QAT},
}


def run_case(case: str, seed: int, output: Path, store: Path) -> dict[str, Any]:
    """Runs one recipe and returns its row."""
    recipe = Recipe.model_validate({"version": 1, "name": f"{case}-{seed}", "seed": seed, "data": DATA, **CASES[case]})
    outcome = run_pipeline(recipe, output=output / f"{case}-{seed}", store=Store(store))
    assert outcome.report is not None
    models = {row["key"]: row for row in outcome.report["models"]}
    before = models["pruned" if "prune" in CASES[case] else "student"]
    result = models["quantized"]
    return {
        "float_accuracy": before["accuracy"],
        "int8_accuracy": result["accuracy"],
        "validation_accuracy": result["validation_accuracy"],
        "size_bytes": result["flatbuffer"]["size_bytes"],
        "gzip_bytes": result["flatbuffer"]["gzip_bytes"],
        "latency_ms": result["latency"]["litert"]["p50_ms"],
        "dense_latency_ms": models["student"]["latency"]["litert"]["p50_ms"],
        "macs": result["macs"],
    }


def main() -> None:
    """Runs what is missing, or prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--output", type=Path, default=Path("runs/techniques"))
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    table = Table(RESULTS / "techniques.csv", COLUMNS)
    if not options.summary:
        for seed in options.seeds:
            for case in options.cases:
                if not table.done(case, seed):
                    table.append(case, seed, **run_case(case, seed, options.output, options.store))
                    print(table.rows()[-1], flush=True)
    print("| case | float32 accuracy | INT8 accuracy | bytes | p50 ms |\n| --- | --- | --- | --- | --- |")
    for case in CASES:
        cells = [
            mean_and_spread(table.column(case, name))
            for name in ("float_accuracy", "int8_accuracy", "size_bytes", "latency_ms")
        ]
        print(f"| {case} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
