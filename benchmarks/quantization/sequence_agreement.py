"""Does INT8 give a trained sequence network's answers? Five built-in networks on texts and on series, PTQ and QAT.

    python -m benchmarks.quantization.sequence_agreement  # 1 to 5 minutes a case on one core; finished rows are skipped

Texts are Reuters R8 (the first 48 words), series the watch's sensors (64 steps, three people held out); the networks
are small and learn from labels alone. Figures are on the test split. `float_difference`: largest difference between the
float32 flatbuffer's outputs and torch's. `agreement`: share of answers that the INT8 file and the float32 network have
in common; `clear_agreement` the same where the float32 network's two largest outputs lie more than one INT8 step apart;
`clear_share`: how many that are. `twin_same`: INT8 file against its twin. `tensorflow_same`: LiteRT against the
reference kernels of TensorFlow on the same file. `micro_same`: of networks that can be streamed, one step repeated on
tflite-micro against LiteRT. Rows that end in "before" are of the version before `quantization/grids/readers.py`,
those in "two grids" of GRUs in which what a step adds to the state had a grid of its own, those in "INT8 cells" and
"INT8 states" of networks that were INT8 throughout (`quantize.cells`; the latter, and all before, of GRUs whose update
gates began half open), those in "alone" of such that had the cell or state in float32 and not the gates, those in "INT8
softmax" of Transformers that were INT8 throughout (`quantize.softmax`), and those in "no clip" of series whose values
did not end at 2.5 standard deviations (`data.clip`; chosen on validation, with GRU and Transformer, from 2.5 to 5), the
LSTM trained no longer than the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.table import RESULTS, Table, mean_and_spread
from edgecompress.context import Context
from edgecompress.pipeline.plan import make_plan
from edgecompress.pipeline.run import STEP, run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import final_stage
from edgecompress.stages.base import Workbench
from edgecompress.stages.verifying.gate import outputs_of_flatbuffer
from edgecompress.store.store import Store
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import quantize_input, run_steps
from edgecompress.training.evaluate import outputs_of

TRAIN = {"optimizer": "adamw", "learning_rate": 0.003, "batch_size": 64}
#: Data -> task, source, and for how many epochs is learnt.
DATA: dict[str, tuple[str, dict[str, Any], int]] = {
    "reuters": (
        "text-classification",
        {
            "source": "csv", "path": "data/reuters-r8/train.tab", "test_path": "data/reuters-r8/test.tab",
            "text": "Text", "label": "Category", "length": 48, "tokenizer": {"kind": "word", "vocabulary": 4000},
        },
        6,
    ),
    "watch": (
        "timeseries-classification",
        {
            "source": "npz", "path": "data/watch-imu/watch.npz", "length": 64, "hop": 32, "split_by": "subject",
            "test": 0.3, "validation": 0.15, "augment": ["scale", "rotate"], "clip": 2.5,
        },
        10,
    ),
}  # fmt: skip
#: Network -> its arguments.
MODELS: dict[str, dict[str, Any]] = {
    "gru": {"width": 48},
    "lstm": {"width": 48},
    "transformer": {"layers": 2, "heads": 2, "width": 48, "hidden": 96},
    "tcn": {"width": 32},
    "text-cnn": {"width": 48},
}
#: Networks that have not learnt their task by then train so many times as long (told by validation).
SLOW = {("watch", "lstm"): 3, ("watch", "gru"): 2, ("reuters", "lstm"): 3}
QUANTIZE: dict[str, dict[str, Any]] = {
    "ptq": {"mode": "ptq"},
    "qat": {"mode": "qat", "train": {"epochs": 2, "batch_size": 64}},
}
#: Networks whose steps can be streamed, over series.
STREAMED = ("gru", "lstm")
#: Test samples for the reference kernels, which are slow, and for float32.
SAMPLES, STREAMED_SAMPLES = 500, 64
COLUMNS = (
    "exit_code", "float_accuracy", "int8_accuracy", "samples", "float_difference", "agreement", "clear_agreement",
    "clear_share", "twin_same", "tensorflow_same", "micro_same", "size_bytes", "float_ms", "int8_ms", "minutes",
)  # fmt: skip


def recipe_of(data: str, model: str, mode: str, seed: int, longer: int = 1) -> Recipe:
    """Returns the recipe of a case; it trains `longer` times as long."""
    task, source, epochs = DATA[data]
    longer *= SLOW.get((data, model), 1)
    args = dict(MODELS[model])
    if data == "reuters" and model != "transformer":
        args["embedding"] = 32
    return Recipe.model_validate(
        {
            "version": 1,
            "name": f"{data}-{model}-{mode}{f'-{longer}' if longer > 1 else ''}",
            "task": task,
            "seed": seed,
            "threads": 1,
            "data": source,
            "student": {"model": model, "args": args, "train": {"epochs": longer * epochs, **TRAIN}},
            "quantize": QUANTIZE[mode],
            "export": {"streaming": data == "watch" and model in STREAMED},
            "benchmark": {"runs": 100},
            "base_dir": str(Path.cwd()),
        }
    )


def same(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Returns the share of equal arg-maxes, in percent."""
    return round(100.0 * float((a.argmax(1) == b.argmax(1)).mean()), 3)


def run_case(recipe: Recipe, store: Store) -> dict[str, Any]:
    """Runs a recipe and returns its row."""
    output = Path("runs/sequence-agreement") / f"{recipe.name}-{recipe.seed}"
    outcome = run_pipeline(recipe, output=output, store=store)
    report = outcome.report
    assert report is not None
    results = {step.stage: step.result for step in make_plan(recipe, store).steps if step.result is not None}
    bench, stage, path = (
        Workbench(recipe, Context(recipe.seed), store, results),
        final_stage(recipe),
        output / "model.tflite",
    )
    inputs = bench.dataset.test.inputs
    floating = outputs_of(bench.load(stage).to(bench.device), bench.task, inputs, bench.device)
    converted = outputs_of_flatbuffer(bench, bench.float_flatbuffer(stage), inputs[:SAMPLES])
    whole, session = outputs_of_flatbuffer(bench, path, inputs), RUNTIMES["litert"].session(path)
    reference = outputs_of_flatbuffer(bench, path, inputs[:SAMPLES], "tensorflow")
    gaps = np.diff(np.sort(floating, 1)[:, -2:], axis=1)[:, 0]
    clear = gaps > session.output.scale
    micro: float | str = ""
    if recipe.export.streaming:
        series = bench.task.to_flatbuffer(bench.task.inputs(inputs[:STREAMED_SAMPLES]))
        raw = quantize_input(series, session.input)
        micro = same(run_steps(RUNTIMES["tflite-micro"].session(output / STEP), raw), session.run(raw))
    models = {row["key"]: row for row in report["models"]}
    latency = [round(models[key]["latency"]["litert"]["p50_ms"], 4) for key in ("student", "quantized")]
    return {
        "exit_code": int(outcome.exit_code),
        "float_accuracy": round(models["student"]["accuracy"], 3),
        "int8_accuracy": round(models["quantized"]["accuracy"], 3),
        "samples": len(inputs),
        "float_difference": f"{np.abs(converted - floating[:SAMPLES]).max():.2g}",
        "agreement": same(whole, floating),
        "clear_agreement": same(whole[clear], floating[clear]),
        "clear_share": round(100.0 * float(clear.mean()), 2),
        "twin_same": round(report["verification"]["twin_agreement"], 3),
        "tensorflow_same": same(reference, whole[:SAMPLES]),
        "micro_same": micro,
        "size_bytes": models["quantized"]["flatbuffer"]["size_bytes"],
        "float_ms": latency[0],
        "int8_ms": latency[1],
        "minutes": round(sum(one["seconds"] for one in report["stages"]) / 60, 1),
    }


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--modes", nargs="+", default=list(QUANTIZE), choices=list(QUANTIZE))
    parser.add_argument("--longer", type=int, default=1, help="times the usual epochs; for rows of their own")
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    parser.add_argument("--table", type=Path, default=RESULTS / "sequence_agreement.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(options.table, COLUMNS)
    cases = [(data, model, mode) for data in options.data for model in options.models for mode in options.modes]
    for seed in options.seeds:
        for data, model, mode in cases:
            case = f"{data} {model} {mode}" + (f", {options.longer} times as long" if options.longer > 1 else "")
            if not table.done(case, seed):
                recipe = recipe_of(data, model, mode, seed, options.longer)
                table.append(case, seed, **run_case(recipe, Store(options.store)))
                print(table.rows()[-1], flush=True)
    names = (
        "float_accuracy", "int8_accuracy", "agreement", "clear_agreement", "twin_same", "tensorflow_same", "float_ms",
        "int8_ms",
    )  # fmt: skip
    print(f"| case | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for case in dict.fromkeys(row["case"] for row in table.rows()):
        print(f"| {case} | " + " | ".join(mean_and_spread(table.column(case, name)) for name in names) + " |")


if __name__ == "__main__":
    main()
