"""What pruning costs, by how much and by which importance: Fashion-MNIST, 20,000 training images, three seeds.

    python -m benchmarks.pruning.pruning  # about five hours on one AVX2 core; finished rows are skipped

18,000 images train (2,000 are the validation split), the whole test split scores. Runs share a store, so each dense
network is trained once per seed. Rows go to benchmarks/results/pruning.csv; `--summary` prints the docs' table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, Table, mean_and_spread
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store

COLUMNS = (
    "exit_code",
    "dense_accuracy",
    "dense_validation_accuracy",
    "pruned_accuracy",
    "pruned_validation_accuracy",
    "int8_accuracy",
    "int8_validation_accuracy",
    "macs_ratio",
    "params_ratio",
    "asked_zeros",
    "masked_share",
    "zero_share_in_file",
    "size_bytes",
    "gzip_bytes",
)
DATA = {"source": "fashion-mnist", "augment": ["shift", "flip"], "train_samples": 20_000}


def train(epochs: int, **more: Any) -> dict[str, Any]:
    """Returns a train block."""
    return {"epochs": epochs, "batch_size": 128, **more}


#: The dense network of each group of cases.
RESNET20 = {"teacher": {"model": "resnet20", "train": train(10)}}
RESNET9 = {"teacher": {"model": "resnet9", "args": {"width": 16}, "train": train(8)}}
RESNET8 = {
    **RESNET9,
    "student": {"model": "resnet8", "args": {"width": 16}},
    "distill": {"alpha": 0.9, "temperature": 4.0, "train": train(8)},
}
PTQ = {"quantize": {"mode": "ptq"}}
QAT = {"quantize": {"mode": "qat", "train": train(3)}}


def prune(method: str, epochs: int, learning_rate: float | None = None, **more: Any) -> dict[str, Any]:
    """Returns a prune block; the learning rate is the tool's where none is given."""
    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    learning = {"learn_from_teacher": True}
    return {"prune": {"method": method, "train": train(epochs, **rate), **learning, **more}}


def by_macs(epochs: int, ratio: float, **more: Any) -> dict[str, Any]:
    """Returns a structured prune block that counts MACs."""
    return prune("structured", epochs, ratio=ratio, of="macs", **more)


#: Case -> the blocks of its recipe.
CASES: dict[str, dict[str, Any]] = {
    "resnet20 dense": {**RESNET20, **PTQ},
    "resnet20 2.5x fewer MACs, 8 epochs": {**RESNET20, **by_macs(8, 0.6, steps=5), **PTQ},
    "resnet20 2.5x fewer MACs": {**RESNET20, **by_macs(14, 0.61, steps=5, learning_rate=0.05), **PTQ},
    "resnet9 dense": {**RESNET9, **QAT},
    "resnet9 90 %": {**RESNET9, **prune("unstructured", 8, ratio=0.9), **QAT},
    "resnet9 95 %": {**RESNET9, **prune("unstructured", 8, ratio=0.95), **QAT},
    "resnet9 2:4": {**RESNET9, **prune("unstructured", 8, pattern="2:4"), **QAT},
    **{
        f"resnet8 {importance} {name}": {**RESNET8, **by_macs(5, 0.5, importance=importance, steps=steps), **PTQ}
        for importance in ("l2", "l1", "bn", "taylor")
        for name, steps in (("one-shot", 1), ("iterative", 5))
    },
    **{
        f"resnet8 l2 {name}, labels alone": {
            **RESNET8,
            **by_macs(5, 0.5, importance="l2", steps=steps, learn_from_teacher=False),
            **PTQ,
        }
        for name, steps in (("one-shot", 1), ("iterative", 5))
    },
}


def run_case(case: str, seed: int, output: Path, store: Path) -> dict[str, Any]:
    """Runs one recipe and returns its row."""
    blocks = CASES[case]
    recipe = Recipe.model_validate({"version": 1, "name": "case", "seed": seed, "data": DATA, **blocks})
    folder = output / f"{case.replace(' ', '-').replace(':', '-').replace('%', 'percent')}-{seed}"
    outcome = run_pipeline(recipe, output=folder, store=Store(store))
    report = json.loads((folder / "report.json").read_text())
    models = {row["key"]: row for row in report["models"]}
    dense = models["student" if "student" in blocks else "teacher"]
    pruned, result = models.get("pruned", dense), models["quantized"]
    sparsity = report.get("sparsity")
    row = {
        "exit_code": outcome.exit_code,
        "dense_accuracy": dense["accuracy"],
        "dense_validation_accuracy": dense["validation_accuracy"],
        "pruned_accuracy": pruned["accuracy"],
        "pruned_validation_accuracy": pruned["validation_accuracy"],
        "int8_accuracy": result["accuracy"],
        "int8_validation_accuracy": result["validation_accuracy"],
        "macs_ratio": dense["macs"] / pruned["macs"],
        "params_ratio": dense["params"] / pruned["params"],
        "size_bytes": result["flatbuffer"]["size_bytes"],
        "gzip_bytes": result["flatbuffer"]["gzip_bytes"],
    }
    if sparsity:
        row |= {
            "asked_zeros": recipe.prune.ratio if recipe.prune else "",
            "masked_share": sparsity["masked_weights"] / sparsity["prunable_weights"],
            "zero_share_in_file": sparsity["share"],
        }
    return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}


def main() -> None:
    """Runs what is missing, or prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--output", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    table = Table(RESULTS / "pruning.csv", COLUMNS)
    if not options.summary:
        for seed in options.seeds:
            for case in options.cases:
                if not table.done(case, seed):
                    table.append(case, seed, **run_case(case, seed, options.output, options.store))
                    print(table.rows()[-1], flush=True)
    shown = ("dense_accuracy", "pruned_accuracy", "int8_accuracy", "pruned_validation_accuracy", "macs_ratio")
    print("| case | seeds | " + " | ".join(shown) + " |\n|" + " --- |" * (len(shown) + 2))
    for case in CASES:
        cells = [mean_and_spread(table.column(case, name)) for name in shown]
        print(f"| {case} | {len(table.column(case, 'exit_code'))} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
