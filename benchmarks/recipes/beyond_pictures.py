"""The shipped recipes beyond pictures, three seeds: what docs/results.md says of texts, series, speech and language.

    python -m benchmarks.recipes.beyond_pictures  # hours on two cores; finished rows are skipped

`teacher`, `student` and `result` are the task's main figure on the test split: accuracy in percent, or bits per byte.
The cases that end in "labels alone" train the same student without a teacher. Rows that end in "earlier" are of earlier
versions, those in "INT8 softmax" of Transformers that were INT8 throughout (`quantize.softmax`).
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from typing import Any

import yaml

from benchmarks.table import RESULTS, ROOT, Table, mean_and_spread
from edgecompress.pipeline.diagnosis import machine
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.store.store import Store

RECIPES = ROOT / "recipes"
#: Case -> recipe and what is set in it.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "reuters-transformer": ("reuters-transformer", ()),
    "watch-imu": ("watch-imu", ()),
    "spoken-language": ("spoken-language", ()),
    "newsgroups-transformer-to-gru": ("newsgroups-transformer-to-gru", ()),
    "newsgroups-minilm-to-cnn": ("newsgroups-minilm-to-cnn", ()),
    "newsgroups-minilm-to-cnn, labels alone": ("newsgroups-minilm-to-cnn", ("teacher=null", "distill=null")),
    "tiny-lm": ("tiny-lm", ()),
    "tiny-lm, labels alone": ("tiny-lm", ("teacher=null", "distill=null")),
}
COLUMNS = (
    "exit_code", "figure", "teacher", "student", "result", "agreement", "twin_same", "size_bytes", "times_smaller",
    "times_faster", "teacher_ms", "latency_ms", "minutes", "peak_mib", "cpu",
)  # fmt: skip
#: Processor features that decide how fast training in bf16 and INT8 inference are.
TELLING = ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "bf16")


def figure_of(row: dict[str, Any]) -> tuple[str, float]:
    """Returns name and value of a report row's main figure."""
    return (
        ("bits_per_byte", row["metrics"]["bits_per_byte"]) if row["accuracy"] is None else ("accuracy", row["accuracy"])
    )


def run_case(case: str, seed: int) -> dict[str, Any]:
    """Runs a recipe and returns its row."""
    name, overrides = CASES[case]
    training: list[str] = []
    if "labels alone" in case:  # the student's training is that of the distillation, without the teacher
        written = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
        training = [f"student.train={json.dumps(written['distill']['train'])}"]
    recipe = load_recipe(RECIPES / f"{name}.yaml", [f"seed={seed}", *overrides, *training])
    output = Path("runs") / f"{case.replace(', ', '-').replace(' ', '-')}-{seed}"
    outcome = run_pipeline(recipe, output=output, store=Store(Path("runs/.store")))
    report = outcome.report
    assert report is not None
    models = {row["key"]: row for row in report["models"]}
    result, against = models["quantized"], report["ratios"].get("against_teacher") or {}
    first = report["benchmark"]["runtimes"][0]
    row: dict[str, Any] = {
        "exit_code": int(outcome.exit_code),
        "figure": figure_of(result)[0],
        "student": round(figure_of(models["student"])[1], 4),
        "result": round(figure_of(result)[1], 4),
        "agreement": result["agreement_with_float"],
        "twin_same": report["verification"]["twin_agreement"],
        "size_bytes": result["flatbuffer"]["size_bytes"],
        "latency_ms": round(result["latency"][first]["p50_ms"], 4),
        "minutes": round(sum(stage["seconds"] for stage in report["stages"]) / 60, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "cpu": " ".join(feature for feature in machine()["features"] if feature in TELLING) or "-",
    }
    if "teacher" in models:
        row |= {
            "teacher": round(figure_of(models["teacher"])[1], 4),
            "teacher_ms": round(models["teacher"]["latency"][first]["p50_ms"], 4),
            "times_smaller": round(against["size"], 2),
            "times_faster": round(against["latency"], 2),
        }
    return row


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    options = parser.parse_args()
    table = Table(RESULTS / "beyond_pictures.csv", COLUMNS)
    for seed in options.seeds:
        for case in options.cases:
            if not table.done(case, seed):
                table.append(case, seed, **run_case(case, seed))
                print(table.rows()[-1], flush=True)
    names = ("teacher", "student", "result", "agreement", "size_bytes", "times_smaller", "times_faster", "minutes")
    print(f"| recipe | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for case in CASES:
        print(f"| {case} | " + " | ".join(mean_and_spread(table.column(case, name)) for name in names) + " |")


if __name__ == "__main__":
    main()
