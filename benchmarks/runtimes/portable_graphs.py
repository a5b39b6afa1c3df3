"""Is `quantize.portable` true? Random networks on LiteRT's kernels and on TensorFlow's, operator by operator.

    python -m benchmarks.runtimes.portable_graphs  # about ten seconds a network; finished rows are skipped

The networks are those of random_graphs.py, quantized to portable files. Every operator is run alone on both kernels
with the same inputs, 200 samples. `named`: operators that the report would name as those that may part; `part`: those
that did, on some value; `unnamed`: those of them that were not named, which must be none. `equal_outputs`: share of the
whole file's outputs that both kernels agree on, in percent.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quantization.random_graphs import CALIBRATION_SAMPLES, random_net
from benchmarks.runtimes.requantization import KERNELS, answers_alone, outputs_of
from benchmarks.table import RESULTS, Table
from edgecompress.quantization.repairs.settling import parting_layers, settle
from edgecompress.quantization.structure.pooling import pool_means
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.format.packing import pack

COLUMNS = ("operators", "named", "part", "unnamed", "equal_outputs")
SAMPLES = 200


def measure(seed: int, folder: Path) -> dict[str, Any]:
    """Makes a portable file of a random network and returns where the kernels part on it."""
    net, shape = random_net(seed)
    path = folder / f"{seed}.tflite"
    convert(net, shape, path)
    structure = read_quantized(path)
    labels = operator_labels(structure, net)
    twin = Twin(structure, read_model(path), labels, portable=True).eval()
    generator = torch.Generator().manual_seed(seed)
    twin.calibrate(torch.randn(CALIBRATION_SAMPLES, *shape, generator=generator).split(32))
    settle(twin)
    model = read_quantized(path)
    twin.write_into(model)
    named = set(parting_layers(model, labels))
    x = torch.randn(SAMPLES, *shape, generator=generator).permute(0, 2, 3, 1).numpy()
    raw = twin.groups[twin.group_of[twin.graph.input]].integers(x).astype(np.int8)
    content = pack(model)
    part = parting(model, labels, content, raw)
    first, second = (outputs_of(content, kernels, raw) for kernels in KERNELS)
    return {
        "operators": len(labels),
        "named": len(named),
        "part": len(part),
        "unnamed": " ".join(sorted(part - named)),
        "equal_outputs": round(100.0 * float((first == second).mean()), 3),
    }


def read_quantized(path: Path) -> Any:
    """Returns the INT8 structure of a float32 flatbuffer, its means over maps pools."""
    return read_model(quantized_structure(pool_means(path.read_bytes())))


def parting(model: Any, labels: list[str], content: bytes, raw: np.ndarray) -> set[str]:
    """Returns the labels of operators on which the kernels differ, given the same inputs."""
    names = {id(operator): label for operator, label in zip(model.subgraphs[0].operators, labels, strict=True)}
    answers = answers_alone(model, content, raw)
    return {names[id(operator)] for operator, first, second in answers if not np.array_equal(first, second)}


def main() -> None:
    """Runs the missing seeds and prints what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args()
    table = Table(RESULTS / "portable_graphs.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.count):
            if not table.done("portable", seed):
                table.append("portable", seed, **measure(seed, Path(folder)))
                print(table.rows()[-1], flush=True)
    rows = table.rows()
    alike = [row for row in rows if row["named"] == "0"]
    print(
        f"{len(rows)} networks; {len(alike)} without an operator that may part, of which "
        f"{sum(row['equal_outputs'] == '100.0' for row in alike)} give the same outputs on both kernels; "
        f"operators that part: {sum(int(row['part']) for row in rows)}, of which not named: "
        f"{sum(len(row['unnamed'].split()) for row in rows)}"
    )


if __name__ == "__main__":
    main()
