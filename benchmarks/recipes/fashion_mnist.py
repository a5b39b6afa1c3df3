"""The shipped Fashion-MNIST recipes: what the README's table says of them.

    python -m benchmarks.recipes.fashion_mnist  # about two hours on two cores from nothing; finished rows are skipped

`minutes` adds up what the stages took when they ran, teacher included, whether or not they were reused here. `peak_mib`
is of this process: only a case that trains here (the first one, from an empty store) tells what training takes.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

import numpy as np

from benchmarks.table import RESULTS, ROOT, Table, mean_and_spread
from edgecompress.pipeline.diagnosis import machine
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.store.store import Store
from edgecompress.tflite.format.flatbuffer import read_model

#: A schedule for processors without bf16.
SHORT = (
    "teacher.train.epochs=9", "teacher.train.batch_size=64", "teacher.train.learning_rate=0.05",
    "distill.views=5", "distill.train.epochs=14", "prune.train.epochs=8", "quantize.train.epochs=2",
)  # fmt: skip
#: Case -> recipe and what is set in it.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "fashion-mnist-qat": ("fashion-mnist-qat", ()),
    "fashion-mnist-ptq": ("fashion-mnist-ptq", ()),
    "fashion-mnist-sparse": ("fashion-mnist-sparse", ()),
    "fashion-mnist-sparse-dense": ("fashion-mnist-sparse", ("prune=null", "quantize={mode: ptq}")),
    "fashion-mnist-qat-short": ("fashion-mnist-qat", SHORT),
}
COLUMNS = (
    "exit_code", "teacher_accuracy", "student_accuracy", "float_accuracy", "int8_accuracy", "size_bytes", "gzip_bytes",
    "times_smaller", "times_faster", "latency_ms", "zero_share", "twin_same", "minutes", "peak_mib", "cpu",
)  # fmt: skip
#: Processor features that decide how fast training in bf16 and INT8 inference are.
TELLING = ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "bf16")
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
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    table = Table(RESULTS / "fashion_mnist.csv", COLUMNS)
    for seed in options.seeds:
        for case in options.cases:
            if table.done(case, seed):
                continue
            name, overrides = CASES[case]
            recipe = load_recipe(ROOT / "recipes" / f"{name}.yaml", [f"seed={seed}", *overrides])
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
                cpu=" ".join(feature for feature in machine()["features"] if feature in TELLING) or "-",
                peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            )
            print(table.rows()[-1], flush=True)
    print("| recipe | teacher | INT8 | bytes | smaller | faster | minutes |\n|" + " --- |" * 7)
    names = ("teacher_accuracy", "int8_accuracy", "size_bytes", "times_smaller", "times_faster", "minutes")
    for case in CASES:
        print(f"| {case} | " + " | ".join(mean_and_spread(table.column(case, name)) for name in names) + " |")


if __name__ == "__main__":
    main()
