"""The shipped Fashion-MNIST recipes: what the README's table says of them.

    python benchmarks/fashion_mnist.py         # about two hours on two cores from nothing; finished rows are skipped

`minutes` adds up what the stages took when they ran, teacher included, whether or not they were reused here.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

import numpy as np
from table import Table, mean_and_spread

from compress.artifact import Store
from compress.pipeline import run_pipeline
from compress.recipe_yaml import load_recipe
from compress.tflite.flatbuffer import read_model

HERE = Path(__file__).parent
CASES = ("fashion-mnist-qat", "fashion-mnist-ptq", "fashion-mnist-sparse")
COLUMNS = (
    "exit_code", "teacher_accuracy", "student_accuracy", "float_accuracy", "int8_accuracy", "size_bytes", "gzip_bytes",
    "times_smaller", "times_faster", "latency_ms", "zero_share", "twin_same", "minutes", "peak_mib",
)  # fmt: skip
WEIGHTED = (3, 4, 9)  # CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED in the schema


def zero_share(path: Path) -> float:
    """Returns the share of zeros among the weights of a flatbuffer, read without the project's own counter."""
    model = read_model(path)
    graph = model.subgraphs[0]
    zeros = total = 0
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) in WEIGHTED:
            values = np.asarray(model.buffers[graph.tensors[operator.inputs[1]].buffer].data).view(np.int8)
            zeros, total = zeros + int((values == 0).sum()), total + values.size
    return zeros / total


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    options = parser.parse_args()
    table = Table(HERE / "fashion_mnist.csv", COLUMNS)
    for seed in options.seeds:
        for case in options.cases:
            if table.done(case, seed):
                continue
            recipe = load_recipe(HERE.parent / "recipes" / f"{case}.yaml", [f"seed={seed}"])
            output = Path("runs") / (case if seed == 0 else f"{case}-seed-{seed}")
            outcome = run_pipeline(recipe, output=output, store=Store(Path("runs/.store")))
            report = outcome.report
            assert report is not None
            models = {row["key"]: row for row in report["models"]}
            result, ratios = models["quantized"], report["ratios"]["against_teacher"]
            table.append(
                case,
                seed,
                exit_code=int(outcome.exit_code),
                teacher_accuracy=round(models["teacher"]["accuracy"], 4),
                student_accuracy=round(models["student"]["accuracy"], 4),
                float_accuracy=round(report["models"][-2]["accuracy"], 4),
                int8_accuracy=round(result["accuracy"], 4),
                size_bytes=result["flatbuffer"]["size_bytes"],
                gzip_bytes=result["flatbuffer"]["gzip_bytes"],
                times_smaller=round(ratios["size"], 2),
                times_faster=round(ratios["latency"], 2),
                latency_ms=round(result["latency"]["litert"]["p50_ms"], 4),
                zero_share=round(zero_share(output / "model.tflite"), 4),
                twin_same=report["verification"]["twin_agreement"],
                minutes=round(sum(stage["seconds"] for stage in report["stages"]) / 60, 1),
                peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            )
            print(table.rows()[-1], flush=True)
    print("| recipe | teacher | INT8 | bytes | smaller | faster | minutes |\n|" + " --- |" * 7)
    names = ("teacher_accuracy", "int8_accuracy", "size_bytes", "times_smaller", "times_faster", "minutes")
    for case in CASES:
        print(f"| {case} | " + " | ".join(mean_and_spread(table.column(case, name)) for name in names) + " |")


if __name__ == "__main__":
    main()
