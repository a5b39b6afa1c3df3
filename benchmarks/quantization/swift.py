"""What HARD_SWISH as a sum and a product gains in time, and what it costs in accuracy: a trained MobileNetV3.

    make data && python -m benchmarks.quantization.swift  # a quarter of an hour on two cores; finished rows are skipped

torchvision's mobilenet_v3_small is trained on Fashion-MNIST, once a seed, and quantized (PTQ) twice from the same
weights: with the operator as it is, and spelled out. Both files and the float32 one are timed interleaved.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.table import RESULTS, Table
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.stages import quantize
from edgecompress.stages.before import rehearsal
from edgecompress.stages.quantizing.building import pace
from edgecompress.store.store import Store
from edgecompress.tflite.runtime.latency import measure

COLUMNS = ("float_accuracy", "accuracy", "twin", "size_bytes", "p50_ms", "float_p50_ms", "against_float")
WAYS = ("as it is", "swift")
RUNS = 1000


def recipe(seed: int, samples: int, epochs: int) -> dict[str, Any]:
    """Returns the recipe; the network is trained on labels."""
    return {
        "version": 1, "seed": seed, "threads": 1,
        "data": {"source": "fashion-mnist", "train_samples": samples},
        "student": {"model": "torchvision/mobilenet_v3_small", "train": {"epochs": epochs}},
        "quantize": {"mode": "ptq"}, "report": {"analysis": "none"}, "benchmark": {"runs": 10},
    }  # fmt: skip


def run_case(path: Path, output: Path, store: Path, way: str) -> dict[str, Any]:
    """Returns a row's columns, latencies aside."""
    for module in (quantize, rehearsal):  # results are no others': each way has a store of its own behind the training
        vars(module)["pace"] = pace if way == "swift" else (lambda *_: "as it is")
    report = run_pipeline(load_recipe(path), output=output, store=Store(store)).report
    assert report is not None
    first, last = report["models"][0], report["models"][-1]
    return {
        "float_accuracy": round(first["accuracy"], 2), "accuracy": round(last["accuracy"], 2),
        "twin": round(report["verification"]["twin_agreement"], 2), "size_bytes": last["flatbuffer"]["size_bytes"],
    }  # fmt: skip


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--table", type=Path, default=RESULTS / "swift.csv")
    parser.add_argument("--keep", type=Path, help="a folder for the stores, which stay")
    options = parser.parse_args()
    table = Table(options.table, COLUMNS)
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            if all(table.done(way, seed) for way in WAYS):
                continue
            place = (options.keep or Path(temporary)) / str(seed)
            place.mkdir(parents=True, exist_ok=True)
            path = place / "recipe.yaml"
            path.write_text(yaml.safe_dump(recipe(seed, options.samples, options.epochs)))
            rows = {}
            for way in WAYS:
                for made in ("rehearsal", "quantize", "export", "verify", "benchmark"):
                    for old in (place / "store").glob(f"{made}-*"):
                        shutil.rmtree(old)
                rows[way] = run_case(path, place / way, place / "store", way)
            (floating,) = (place / "store").glob("export-*/student.tflite")
            files = {"float32": floating} | {way: place / way / "model.tflite" for way in WAYS}
            latency = {name: one.p50_ms for name, one in measure(files, runs=RUNS).items()}
            for way, row in rows.items():
                times = {"p50_ms": latency[way], "float_p50_ms": latency["float32"]}
                ratio = latency[way] / latency["float32"]
                table.append(
                    way, seed, **row, **{key: round(ms, 4) for key, ms in times.items()}, against_float=round(ratio, 2)
                )
                print(table.rows()[-1], flush=True)
    table.show("way", COLUMNS)


if __name__ == "__main__":
    main()
