"""What INT8 costs a BERT: MiniLM fine-tuned on a part of the newsgroups is itself what is quantized.

    python -m benchmarks.recipes.bert_int8  # about half an hour on two cores; finished rows are skipped

4,000 training texts of 64 tokens, 1,000 of the test texts. The cases differ in `quantize` alone.
Rows go to benchmarks/results/bert_int8.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, ROOT, Table, mean_and_spread
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store

#: Case -> its quantize block.
CASES: dict[str, dict[str, Any]] = {
    "norms in INT8": {"norms": "int8"},
    "norms in float32": {},
    "norms in INT8, QAT": {"norms": "int8", "mode": "qat", "train": {"epochs": 1, "batch_size": 32}},
}
COLUMNS = (
    "exit_code", "float_accuracy", "int8_accuracy", "agreement", "twin_same", "size_bytes", "float_bytes", "float_ms",
    "int8_ms", "minutes",
)  # fmt: skip


def recipe_of(case: str, seed: int) -> Recipe:
    """Returns a case's recipe."""
    return Recipe.model_validate(
        {
            "version": 1,
            "name": f"bert-{'-'.join(case.lower().replace(',', '').split())}",
            "task": "text-classification",
            "seed": seed,
            "base_dir": str(ROOT),
            "data": {
                "source": "csv",
                "path": "data/newsgroups/train.tab",
                "test_path": "data/newsgroups/test.tab",
                "text": "Text",
                "label": "Category",
                "length": 64,
                "train_samples": 4000,
                "test_samples": 1000,
            },
            "teacher": {
                "model": "hf/data/minilm",
                "args": {"length": 64},
                "train": {"epochs": 3, "optimizer": "adamw", "learning_rate": 0.0002, "batch_size": 32},
            },
            "quantize": CASES[case],
        }
    )


def run_case(case: str, seed: int, store: Path) -> dict[str, Any]:
    """Runs a recipe and returns its row."""
    recipe = recipe_of(case, seed)
    outcome = run_pipeline(recipe, output=Path("runs") / f"{recipe.name}-{seed}", store=Store(store))
    report = outcome.report
    assert report is not None
    models, first = {row["key"]: row for row in report["models"]}, report["benchmark"]["runtimes"][0]
    floating, result = models["teacher"], models["quantized"]
    return {
        "exit_code": int(outcome.exit_code),
        "float_accuracy": round(floating["accuracy"], 4),
        "int8_accuracy": round(result["accuracy"], 4),
        "agreement": round(result["agreement_with_float"], 4),
        "twin_same": round(report["verification"]["twin_agreement"], 4),
        "size_bytes": result["flatbuffer"]["size_bytes"],
        "float_bytes": floating["flatbuffer"]["size_bytes"],
        "float_ms": round(floating["latency"][first]["p50_ms"], 3),
        "int8_ms": round(result["latency"][first]["p50_ms"], 3),
        "minutes": round(sum(stage["seconds"] for stage in report["stages"]) / 60, 1),
    }


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    options = parser.parse_args()
    table = Table(RESULTS / "bert_int8.csv", COLUMNS)
    for seed in options.seeds:
        for case in options.cases:
            if not table.done(case, seed):
                table.append(case, seed, **run_case(case, seed, options.store))
                print(table.rows()[-1], flush=True)
    names = ("float_accuracy", "int8_accuracy", "agreement", "twin_same", "size_bytes", "float_ms", "int8_ms")
    print(f"| case | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for case in CASES:
        print(f"| {case} | " + " | ".join(mean_and_spread(table.column(case, name)) for name in names) + " |")


if __name__ == "__main__":
    main()
