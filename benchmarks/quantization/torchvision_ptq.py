"""PTQ of torchvision's classification models, random weights, 96x96: an all-INT8 flatbuffer, or why not.

python -m benchmarks.quantization.torchvision_ptq       # about a quarter of a minute a model; finished rows are skipped
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.table import RESULTS, Table
from edgecompress.errors import EdgecompressError
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store

MODELS = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "efficientnet_b0",
    "squeezenet1_1",
    "mnasnet0_5",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
    "densenet121",
    "convnext_tiny",
)
COLUMNS = (
    "exit_code",
    "all_int8",
    "operators",
    "twin_same",
    "twin_clear_same",
    "size_bytes",
    "seconds",
    "peak_mib",
    "remarks",
    "metadata_bytes",
    "overhead_share",
)
#: Largest flatbuffer, metadata included, of models whose size is promised.
LIMITS_BYTES = {"mobilenet_v2": 2_480_000}


def make_data(path: Path) -> None:
    """Writes pictures of noise with coarse structure in ten classes: random weights learn nothing from better ones."""
    rng = np.random.default_rng(0)

    def pictures(count: int) -> np.ndarray:
        coarse = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
        return coarse.repeat(8, 1).repeat(8, 2)

    labels = np.arange(400) % 10
    np.savez(path, x_train=pictures(300), y_train=labels[:300], x_test=pictures(100), y_test=labels[300:])


def main() -> None:
    """Runs the missing models and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=list(MODELS))
    options = parser.parse_args()
    data = Path("runs/torchvision-96.npz").resolve()
    data.parent.mkdir(exist_ok=True)
    if not data.is_file():
        make_data(data)
    table = Table(RESULTS / "torchvision_ptq.csv", COLUMNS)
    for name in options.models:
        if table.done(name, 0):
            continue
        recipe = Recipe.model_validate(
            {
                "version": 1,
                "name": name,
                "data": {"source": "npz", "path": str(data)},
                "teacher": {"model": f"torchvision/{name}", "train": None},
                "quantize": {"mode": "ptq", "calibration_samples": 64},
                "benchmark": {"runs": 20},
            }
        )
        started = time.monotonic()
        row: dict[str, object] = dict.fromkeys(COLUMNS, "")
        try:
            outcome = run_pipeline(recipe, output=Path("runs") / f"ptq-{name}", store=Store(Path("runs/.store")))
            assert outcome.report is not None
            check = outcome.report["verification"]
            flatbuffer = outcome.report["models"][-1]["flatbuffer"]
            assert flatbuffer["size_bytes"] <= LIMITS_BYTES.get(name, flatbuffer["size_bytes"]), flatbuffer
            assert flatbuffer["overhead_bytes"] <= flatbuffer["overhead_allowance_bytes"], flatbuffer
            row |= {
                "exit_code": int(outcome.exit_code),
                "all_int8": not check["census"]["not_int8"],
                "operators": sum(entry["count"] for entry in check["census"]["ops"].values()),
                "twin_same": check["twin_agreement"],
                "twin_clear_same": (check["twin"] or {}).get("clear_same"),
                "size_bytes": flatbuffer["size_bytes"],
                "metadata_bytes": flatbuffer["metadata_bytes"],
                "overhead_share": round(flatbuffer["overhead_bytes"] / flatbuffer["overhead_allowance_bytes"], 3),
                "remarks": "; ".join(outcome.messages),
            }
        except EdgecompressError as error:
            row |= {"exit_code": int(error.exit_code), "all_int8": False, "remarks": str(error)}
        row["seconds"] = round(time.monotonic() - started, 1)
        row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        table.append(name, 0, **row)
        print(table.rows()[-1], flush=True)
    print(Counter(row["all_int8"] for row in table.rows()))


if __name__ == "__main__":
    main()
