"""What a shipped recipe's flatbuffer holds beside weights, biases and scales, against what it may.

    make data && python -m benchmarks.recipes.overhead  # some minutes on one core; finished rows are skipped

Overhead depends on the structure, not on what was learnt: the recipes train for an epoch on few samples. (Pruning by
importance leaves as many channels, whichever they are.)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, ROOT, Table
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.store.store import Store

COLUMNS = ("exit_code", "size_bytes", "metadata_bytes", "overhead_bytes", "allowed_bytes", "share_of_allowed")
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
BLOCKS = ("teacher", "distill", "prune", "quantize")


def brief(path: Path, samples: int) -> list[str]:
    """Returns what is set in a recipe so that it trains for an epoch on few samples."""
    recipe = load_recipe(path)
    trained = [name for name in BLOCKS if getattr(getattr(recipe, name), "train", None) is not None]
    if recipe.quantize is not None and recipe.quantize.mode == "ptq":
        trained.remove("quantize")
    found = [f"{name}.train.epochs=1" for name in trained]
    if recipe.prune is not None and recipe.prune.steps > 1:
        found = [one if not one.startswith("prune") else f"prune.train.epochs={recipe.prune.steps}" for one in found]
    few = [f"data.train_samples={samples}", f"data.test_samples={samples}"] if trained else []
    return [*found, *few, "budget={}", "benchmark.runs=10"]


def run_case(name: str, store: Store, samples: int) -> dict[str, Any]:
    """Runs a recipe and returns its row."""
    path = ROOT / "recipes" / f"{name}.yaml"
    outcome = run_pipeline(load_recipe(path, brief(path, samples)), output=Path("runs/overhead") / name, store=store)
    assert outcome.report is not None
    file = outcome.report["models"][-1]["flatbuffer"]
    return {
        "exit_code": int(outcome.exit_code),
        **{key: file[key] for key in ("size_bytes", "metadata_bytes", "overhead_bytes")},
        "allowed_bytes": file["overhead_allowance_bytes"],
        "share_of_allowed": f"{100.0 * file['overhead_bytes'] / file['overhead_allowance_bytes']:.1f}",
    }


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    options = parser.parse_args()
    table = Table(RESULTS / "overhead.csv", COLUMNS)
    for name in options.recipes:
        if not table.done(name, 0):
            table.append(name, 0, **run_case(name, Store(options.store), options.samples))
            print(table.rows()[-1], flush=True)
    table.show("recipe", COLUMNS)


if __name__ == "__main__":
    main()
