"""Does every INT8 operator compute what it should, on every runtime?

    python -m benchmarks.runtimes.operators  # minutes; finished rows are skipped

Flatbuffers of one operator get random integers over the whole range; what comes out is held against exact arithmetic:
dequantized, computed in float64, quantized. Where the exact result lies between two integers either is right. One row
per (runtime, operator, variant): `outcome` is `runs`, `crashes` or `refused: ...`; `inexact_share` and `off_share` are
the shares of values that are not the rounded result, and that are off by more than one step, in percent; `max_steps`
is the largest difference. `allowed` is `no` for grids that TFLite's specification rules out: kernels are not bound to
notice. Comparisons count their wrong answers; their steps are those by which the two numbers differed.

LiteRT is there three times: as it is (XNNPACK), with its plain kernels, with its reference kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.runtimes import operator_cases, operator_cases_maps
from benchmarks.runtimes.operator_files import Case, Made, compared, make
from benchmarks.runtimes.operator_worker import INTERPRETERS, MICRO
from benchmarks.table import RESULTS, Table
from edgecompress.errors import ResourceError
from edgecompress.tflite.runtime import private_env

COLUMNS = ("op", "variant", "runtime", "allowed", "outcome", "inexact_share", "off_share", "max_steps")
RUNTIMES = (*INTERPRETERS, MICRO)
WORKER = Path(__file__).with_name("operator_worker.py")


def cases() -> list[Case]:
    """Returns all cases."""
    found = list(
        chain(
            operator_cases.unary(), operator_cases.more_unary(), operator_cases.binary(), operator_cases.reducing(),
            operator_cases_maps.weighted(), operator_cases_maps.pools(), operator_cases_maps.moving(),
            operator_cases_maps.split(),
        )
    )  # fmt: skip
    assert len({case.name for case in found}) == len(found)
    return found


def run(runtime: str, folder: Path) -> None:
    """Runs the cases of a folder on a runtime."""
    python, environment = sys.executable, dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
    if runtime == "tflite-runtime":
        python, search = private_env.child_environment()
        environment["PYTHONPATH"] = os.pathsep.join(search)
    subprocess.run([python, str(WORKER), runtime, str(folder)], env=environment, check=True)  # noqa: S603 - our own


def result(made: Made, runtime: str, folder: Path, number: str) -> dict[str, str]:
    """Returns the row of a case."""
    row = {"op": made.case.op, "variant": made.case.variant, "runtime": runtime}
    row["allowed"] = "yes" if made.case.allowed else "no"
    written = folder / f"{number}.{runtime}.npz"
    if not written.is_file():
        said = [line.strip() for line in (folder / f"{number}.{runtime}.txt").read_text(errors="replace").splitlines()]
        crashed = next((line for line in said if line.startswith("crashed")), None)
        # The last version tried may be unknown to the runtime; what it says of the first is about the kernel.
        reasons = [line for line in said if line and not line.startswith(("INFO", "WARNING", "W0", "I0"))]
        return {**row, "outcome": crashed or f"refused: {(reasons or ['without a word'])[0][:120]}"}
    outputs = list(np.load(written).values())
    inexact, off, most = (max(numbers) for numbers in zip(*compared(made, outputs), strict=True))
    figures = {"inexact_share": f"{inexact:.3f}", "off_share": f"{off:.3f}", "max_steps": f"{most:.4g}"}
    return {**row, "outcome": "runs", **figures}


def show(rows: list[dict[str, str]]) -> None:
    """Prints operators that some runtime computes wrongly, with the largest difference and how many cases are off."""
    allowed = [row for row in rows if row["allowed"] == "yes"]
    wrong = dict.fromkeys(row["op"] for row in allowed if float(row["off_share"] or 0) > 0)
    print("| operator | " + " | ".join(RUNTIMES) + " |\n|" + " --- |" * (len(RUNTIMES) + 1))
    for op in sorted(wrong):
        cells = []
        for runtime in RUNTIMES:
            ran = [row for row in allowed if (row["op"], row["runtime"], row["outcome"]) == (op, runtime, "runs")]
            off = [row for row in ran if float(row["off_share"]) > 0]
            most = max((float(row["max_steps"]) for row in ran), default=0.0)
            share = max((float(row["off_share"]) for row in off), default=0.0)
            told = f"{most:.0f} steps, {share:.3g} % ({len(off)} of {len(ran)})" if off else f"right ({len(ran)})"
            cells.append(told if ran else "-")
        print(f"| {op} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measures what is missing and prints what is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ops", nargs="+", help="only these operators")
    parser.add_argument("--runtimes", nargs="+", default=RUNTIMES, choices=RUNTIMES)
    options = parser.parse_args()
    table = Table(RESULTS / "operators.csv", COLUMNS)
    done = {row["case"] for row in table.rows()}
    chosen = [case for case in cases() if not options.ops or case.op in options.ops]
    for runtime in options.runtimes:
        wanted = [case for case in chosen if f"{runtime}: {case.name}" not in done]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder, all_made = Path(place), [make(case) for case in wanted]
            for number, made in enumerate(all_made):
                np.savez(folder / f"{number}.npz", *made.inputs)
                for version, content in enumerate(made.content, 1):
                    (folder / f"{number}.v{version}.tflite").write_bytes(content)
            counts = {str(number): len(made.case.outputs) for number, made in enumerate(all_made)}
            (folder / "cases.json").write_text(json.dumps(counts))
            try:
                run(runtime, folder)
            except ResourceError as error:
                print(error)
                continue
            for number, made in enumerate(all_made):
                table.append(f"{runtime}: {made.case.name}", 0, **result(made, runtime, folder, str(number)))
        print(f"{runtime}: {len(wanted)} cases", flush=True)
    show(table.rows())


if __name__ == "__main__":
    main()
