"""The demo recipe over five seeds: INT8 against the FP32 teacher on 30 % of digits.

python -m benchmarks.recipes.digits_seeds          # a minute or so a seed; finished rows are skipped
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.table import RESULTS, ROOT, Table, mean_and_spread
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.store.store import Store

COLUMNS = ("teacher_accuracy", "int8_accuracy", "drop_points", "size_bytes", "times_smaller", "times_faster", "seconds")


def main() -> None:
    """Runs the missing seeds and prints the means."""
    table = Table(RESULTS / "digits_seeds.csv", COLUMNS)
    for seed in range(5):
        if table.done("digits", seed):
            continue
        recipe = load_recipe(ROOT / "recipes" / "digits.yaml", [f"seed={seed}"])
        started = time.monotonic()
        outcome = run_pipeline(recipe, output=Path(f"runs/digits-seed-{seed}"), store=Store(Path("runs/.store")))
        seconds = time.monotonic() - started
        assert outcome.report is not None
        models = {row["key"]: row for row in outcome.report["models"]}
        ratios = outcome.report["ratios"]["against_teacher"]
        table.append(
            "digits",
            seed,
            teacher_accuracy=models["teacher"]["accuracy"],
            int8_accuracy=models["quantized"]["accuracy"],
            drop_points=models["teacher"]["accuracy"] - models["quantized"]["accuracy"],
            size_bytes=models["quantized"]["flatbuffer"]["size_bytes"],
            times_smaller=ratios["size"],
            times_faster=ratios["latency"],
            seconds=round(seconds, 1),
        )
    for column in COLUMNS:
        print(f"{column}: {mean_and_spread(table.column('digits', column))}")


if __name__ == "__main__":
    main()
