"""Does the INT8 flatbuffer compute what QAT trained? Five networks, dense and pruned, on Fashion-MNIST at 64x64.

    python -m benchmarks.quantization.qat_parity  # about three hours on two AVX2 cores; finished rows are skipped

10,000 training images (9,000 after validation is held out), 5,000 test images. The float network is trained once per
model and seed; its dense, structured (a fifth of the MACs removed) and unstructured (70 % zeros) versions go through
QAT. Rows go to benchmarks/results/qat_parity.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, Table
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store

COLUMNS = (
    "exit_code",
    "float_accuracy",
    "before_qat_accuracy",
    "int8_accuracy",
    "twin_accuracy",
    "samples",
    "same",
    "clear_same",
    "mean_steps",
    "max_steps",
    "zero_share",
    "size_bytes",
    "minutes",
)
SAMPLES, TEST_SAMPLES, SIDE = 10_000, 5_000, 64
BATCH = {"batch_size": 32}
#: Model -> its arguments and how it is trained; so few pictures ask for Adam.
ADAM = {"optimizer": "adamw", "learning_rate": 0.003, **BATCH}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet8": ({}, {"epochs": 6, **ADAM}),
    "ds-cnn": ({}, {"epochs": 6, **ADAM}),
    "mobilenet-v2": ({"width": 0.35}, {"epochs": 8, **ADAM}),
    "torchvision/mobilenet_v3_small": ({}, {"epochs": 8, **ADAM}),
    "torchvision/efficientnet_b0": ({}, {"epochs": 14, **ADAM}),
}
#: After pruning. One epoch leaves an EfficientNet-B0 with 70 % zeros ten points below where it was.
FINE = {"epochs": 5, **BATCH}
PRUNING: dict[str, dict[str, Any] | None] = {
    "dense": None,
    "structured": {"method": "structured", "ratio": 0.2, "of": "macs", "steps": 1, "train": FINE},
    "unstructured": {"method": "unstructured", "ratio": 0.7, "steps": 2, "train": FINE},
}


def recipe_of(model: str, pruning: str, seed: int, ranges: str | None) -> Recipe:
    """Returns the recipe of a case."""
    args, train = MODELS[model]
    data = {
        "source": "fashion-mnist",
        "image_size": SIDE,
        "train_samples": SAMPLES,
        "test_samples": TEST_SAMPLES,
        "augment": ["flip"],
    }
    if model.startswith("torchvision/"):
        data["channels"] = 3
    quantize: dict[str, Any] = {"mode": "qat", "train": {"epochs": 1, **BATCH}}
    if ranges is not None:
        quantize["ranges"] = ranges
    content: dict[str, Any] = {
        "version": 1,
        "name": f"parity-{model.rpartition('/')[2]}-{pruning}",
        "seed": seed,
        "data": data,
        "teacher": {"model": model, "args": args, "train": train},
        "quantize": quantize,
    }
    if PRUNING[pruning] is not None:
        content["prune"] = PRUNING[pruning]
    return Recipe.model_validate(content)


def run_case(model: str, pruning: str, seed: int, store: Path, ranges: str | None) -> dict[str, Any]:
    """Runs one recipe and returns its row."""
    recipe = recipe_of(model, pruning, seed, ranges)
    outcome = run_pipeline(recipe, output=Path("runs/parity") / f"{recipe.name}-{seed}", store=Store(store))
    report = outcome.report
    assert report is not None
    check, models = report["verification"], {row["key"]: row for row in report["models"]}
    twin = check["twin"]
    return {
        "exit_code": int(outcome.exit_code),
        "float_accuracy": round(models["teacher"]["accuracy"], 4),
        "before_qat_accuracy": round(report["models"][-2]["accuracy"], 4),
        "int8_accuracy": round(models["quantized"]["accuracy"], 4),
        "twin_accuracy": round(twin["accuracy"], 4),
        **{name: round(twin[name], 4) for name in ("samples", "same", "clear_same", "mean_steps", "max_steps")},
        "zero_share": round(report["sparsity"]["share"], 4) if report["sparsity"] else "",
        "size_bytes": models["quantized"]["flatbuffer"]["size_bytes"],
        "minutes": round(sum(stage["seconds"] for stage in report["stages"]) / 60, 1),
    }


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--pruning", nargs="+", default=list(PRUNING), choices=list(PRUNING))
    parser.add_argument("--ranges", choices=["ema", "lsq"], help="how QAT sets activation ranges (default: the tool's)")
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    table = Table(RESULTS / "qat_parity.csv", COLUMNS)
    suffix = f" {options.ranges}" if options.ranges else ""
    for seed in [] if options.summary else options.seeds:
        for model in options.models:
            for pruning in options.pruning:
                case = f"{model} {pruning}{suffix}"
                if not table.done(case, seed):
                    table.append(case, seed, **run_case(model, pruning, seed, options.store, options.ranges))
                    print(table.rows()[-1], flush=True)
    names = (
        "float_accuracy",
        "before_qat_accuracy",
        "int8_accuracy",
        "twin_accuracy",
        "same",
        "clear_same",
        "size_bytes",
    )
    table.show("case", names)


if __name__ == "__main__":
    main()
