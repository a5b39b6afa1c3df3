"""Does pruning to a latency end there? INT8 flatbuffers of three networks, pruned to half of their dense parent's p50.

    taskset -c 1 python -m benchmarks.pruning.pruning_latency            # about half an hour; finished rows are skipped

Fashion-MNIST, 2,000 training images, one epoch: latency depends on the widths, not on what was learned. The dense
parent goes through the same recipe without `prune`. Both files are then timed side by side in five blocks; a row holds
the median of the five ratios of their p50. Rows go to benchmarks/results/pruning_latency.csv.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.table import RESULTS, Table
from edgecompress.machine import cpu_name
from edgecompress.pipeline.run import MODEL, run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store
from edgecompress.tflite.runtime.latency import measure

COLUMNS = (
    "cpu",
    "dense_ms",
    "pruned_ms",
    "ratio",
    "smallest_ratio",
    "largest_ratio",
    "structure_ratio",
    "tries",
    "macs_removed",
    "params_removed",
    "dense_bytes",
    "pruned_bytes",
    "seconds",
)
TRAIN = {"epochs": 1, "batch_size": 32, "optimizer": "adamw", "learning_rate": 0.003}
SMALL = {"image_size": 64}
#: Case -> the model, its arguments and the pictures it sees.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ds-cnn": ("ds-cnn", {}, SMALL),
    "mobilenet-v2": ("mobilenet-v2", {"width": 0.5}, {"image_size": 96, "channels": 3}),
    "resnet8": ("resnet8", {}, SMALL),
}
RATIO = 0.5
#: Where half of the parent's latency counts as met: widths go in steps of eight.
BAND = (0.40, 0.55)
BLOCKS, RUNS = 5, 200


def recipe_of(case: str, seed: int, *, pruned: bool) -> Recipe:
    """Returns the recipe of a case, or that of its dense parent."""
    model, args, pictures = CASES[case]
    content: dict[str, Any] = {
        "version": 1,
        "name": f"{case}-{'pruned' if pruned else 'dense'}-{seed}",
        "seed": seed,
        "data": {"source": "fashion-mnist", "train_samples": 2_000, "test_samples": 500, **pictures},
        "teacher": {"model": model, "args": args, "train": TRAIN},
        "quantize": {"mode": "ptq", "calibration_samples": 64},
    }
    if pruned:
        content["prune"] = {"of": "latency", "ratio": RATIO, "steps": 2, "train": TRAIN}
    return Recipe.model_validate(content)


def run_case(case: str, seed: int, output: Path, store: Path) -> dict[str, Any]:
    """Runs both recipes, times their flatbuffers and returns the row."""
    paths, reports = {}, {}
    for name in ("dense", "pruned"):
        recipe = recipe_of(case, seed, pruned=name == "pruned")
        outcome = run_pipeline(recipe, output=output / recipe.name, store=Store(store))
        # The gate on agreement is not the question here: one epoch leaves answers that rounding can turn.
        paths[name] = next(
            path for path in (output / recipe.name / MODEL, output / recipe.name / "rejected.tflite") if path.is_file()
        )
        reports[name] = outcome.report
    blocks = [measure(paths, runs=RUNS, seed=number) for number in range(BLOCKS)]
    ratios = [block["pruned"].p50_ms / block["dense"].p50_ms for block in blocks]
    pruning = reports["pruned"]["pruning"]
    seconds = next(stage["seconds"] for stage in reports["pruned"]["stages"] if stage["stage"] == "prune")
    row = {
        "cpu": cpu_name(),
        "dense_ms": median(block["dense"].p50_ms for block in blocks),
        "pruned_ms": median(block["pruned"].p50_ms for block in blocks),
        "ratio": median(ratios),
        "smallest_ratio": min(ratios),
        "largest_ratio": max(ratios),
        "structure_ratio": pruning["latency"]["ratio"],
        "tries": len(pruning["target"]["tries"]),
        "macs_removed": pruning["removed_macs"],
        "params_removed": pruning["removed_params"],
        "dense_bytes": paths["dense"].stat().st_size,
        "pruned_bytes": paths["pruned"].stat().st_size,
        "seconds": seconds,
    }
    return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()}


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--output", type=Path, default=Path("runs/pruning-latency"))
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    table = Table(RESULTS / "pruning_latency.csv", COLUMNS)
    if not options.summary:
        print(f"on {len(os.sched_getaffinity(0))} cores of {cpu_name()}")
        for seed in options.seeds:
            for case in options.cases:
                if not table.done(case, seed):
                    table.append(case, seed, **run_case(case, seed, options.output, options.store))
                    print(table.rows()[-1], flush=True)
    for row in table.rows():
        met = BAND[0] <= float(row["ratio"]) <= BAND[1]
        print(f"{row['case']} {row['seed']}: {row['ratio']} of its parent's p50, {'met' if met else 'MISSED'}")
    table.show("model", ("dense_ms", "pruned_ms", "ratio", "macs_removed", "dense_bytes", "pruned_bytes"))


if __name__ == "__main__":
    main()
