"""Two runs started at once in one folder, again and again: is the result ever a mixture?

    python -m benchmarks.robustness.two_runs  # about ten minutes; finished rows are skipped

Each time two commands with different seeds are started in an empty folder at the same moment. One must finish; the
other must either say that the folder is in use (exit code 4) or finish after it. The flatbuffer must be that of one
seed, and report, lock file and hashes of the same run: `verify` passes. Rows go to benchmarks/results/two_runs.csv.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.table import RESULTS, ROOT, SOURCES, Table
from tests.e2e.conftest import small_recipe, stripes

COLUMNS = ("exit_first", "exit_second", "flatbuffer_of", "report_of", "verified", "said", "seconds")
TIMES = 20
SEEDS = (1, 2)


def command(folder: Path, output: Path, seed: int) -> list[str]:
    """Returns the command of a run."""
    settings = ["--set", f"seed={seed}", "--quiet"]
    return [
        sys.executable,
        "-m",
        "edgecompress",
        "run",
        str(folder / "small.yaml"),
        "--output",
        str(output),
        *settings,
    ]


def environment(store: Path) -> dict[str, str]:
    """Returns the environment of a command."""
    return {**os.environ, "EDGECOMPRESS_STORE": str(store), **SOURCES}


def digest(run: Path) -> str:
    """Returns the SHA-256 of a run's flatbuffer."""
    return hashlib.sha256((run / "model.tflite").read_bytes()).hexdigest()


def race(folder: Path, store: Path, expected: dict[str, int]) -> dict[str, object]:
    """Returns a row: two runs at once."""
    output = folder / "raced"
    began = time.monotonic()
    runs = [
        subprocess.Popen(  # noqa: S603 - our own program
            command(folder, output, seed), env=environment(store), stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for seed in SEEDS
    ]
    said = " ".join(" ".join(run.communicate()[1].split()) for run in runs)
    check = [sys.executable, "-m", "edgecompress", "verify", str(output), "--json"]
    verified = subprocess.run(check, env=environment(store), capture_output=True, cwd=ROOT, check=False)  # noqa: S603
    row = {
        "exit_first": runs[0].returncode,
        "exit_second": runs[1].returncode,
        "flatbuffer_of": expected.get(digest(output), "neither"),
        "report_of": json.loads((output / "report.json").read_bytes())["seed"],
        "verified": verified.returncode == 0,
        "said": said.replace(str(folder), "..."),
        "seconds": round(time.monotonic() - began, 1),
    }
    shutil.rmtree(output)
    return row


def main() -> None:
    """Runs what is missing and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    table = Table(RESULTS / "two_runs.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stripes(folder / "stripes.npz")
        short = {key: value for key, value in small_recipe().items() if key not in ("student", "distill", "prune")}
        (folder / "small.yaml").write_text(yaml.safe_dump(short))
        expected = {}
        for seed in SEEDS:
            output = folder / f"seed-{seed}"
            alone = command(folder, output, seed)
            subprocess.run(alone, env=environment(folder / "store"), cwd=ROOT, check=True)  # noqa: S603
            expected[digest(output)] = seed
        for number in range(options.times):
            case = f"{number + 1}, {'stages finished before' if number % 2 else 'nothing finished before'}"
            if not table.done(case, 0):
                # With finished stages both come to writing the folder at once; without, they also make the same ones.
                store = folder / "store" if number % 2 else folder / f"store-{number}"
                table.append(case, 0, **race(folder, store, expected))
                print(table.rows()[-1], flush=True)
    rows = table.rows()
    whole = sum(row["verified"] == "True" and row["flatbuffer_of"] == row["report_of"] for row in rows)
    print(f"{whole} of {len(rows)} folders hold one whole run")


if __name__ == "__main__":
    main()
