"""Do inspect, bench and verify survive damaged flatbuffers? Five hundred of them.

    python -m benchmarks.robustness.flatbuffer_fuzz  # about an hour on one core; finished rows are skipped

Flatbuffers of a small run (INT8 and float32) are cut, flipped, overwritten and spliced (tests/shared/
flatbuffer_mutations.py; a seed names each) and given to `inspect` and `bench`, and to `verify` in the folder of a run:
as they are, and with report and lock file forged so that the hashes fit and the file is opened. Every command runs in a
process of its own. Rows go to benchmarks/results/flatbuffer_fuzz.csv, 25 files to each; seconds are by the clock.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from benchmarks.table import RESULTS, Table
from edgecompress.store.files import sealed
from edgecompress_cli.main import invoke
from tests.e2e.conftest import small_recipe, stripes
from tests.shared.flatbuffer_mutations import mutated

COLUMNS = ("files", "exit_0", "exit_4", "exit_5", "other", "signals", "tracebacks", "interpreter_died", "slowest_s")
FILES, PER_ROW = 500, 25
IMPORTED = (
    "edgecompress.stages.table",
    "edgecompress.stages.quantizing.twins",
    "edgecompress.pipeline.recheck",
    "edgecompress.tflite.facts.inspection",
    "edgecompress.data.loading",
)
#: A command that takes longer than this hangs: the interpreter may take 60 s in each of two processes.
LIMIT_S = 180.0
#: The run that makes the files trains, which may take its time.
RUN_LIMIT_S = 3600.0
DIED = ("the interpreter crashed", "did not answer within")


def forked(arguments: list[str], said: Path, limit_s: float = LIMIT_S) -> tuple[int, float, str]:
    """Returns exit code (negative: a signal), seconds and what was said by a command in a process of its own."""
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 99
        try:
            code = invoke(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)
    while time.monotonic() - began < limit_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - began, said.read_text(errors="replace")
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 999, limit_s, "hangs"


def forge(run: Path, content: bytes) -> None:
    """Puts a file in the place of a run's flatbuffer and its hash into report and lock file."""
    (run / "model.tflite").write_bytes(content)
    report, lock = (
        json.loads((run / "report.json").read_bytes()),
        yaml.safe_load((run / "recipe.lock.yaml").read_text()),
    )
    report["files"]["model.tflite"] = lock["model_sha256"] = hashlib.sha256(content).hexdigest()
    (run / "recipe.lock.yaml").write_text(yaml.safe_dump(lock))
    report["pages"]["recipe.lock.yaml"] = hashlib.sha256((run / "recipe.lock.yaml").read_bytes()).hexdigest()
    (run / "report.json").write_text(json.dumps(sealed(report)))


def prepared(place: Path) -> tuple[Path, list[bytes]]:
    """Returns the folder of a finished small run, and the flatbuffers to damage."""
    stripes(place / "stripes.npz")
    short = {key: value for key, value in small_recipe().items() if key not in ("student", "distill", "prune")}
    (place / "small.yaml").write_text(yaml.safe_dump(short))
    os.environ["EDGECOMPRESS_STORE"] = str(place / "store")
    code, _, said = forked(
        ["run", str(place / "small.yaml"), "--output", str(place / "run"), "--quiet"], place / "said", RUN_LIMIT_S
    )
    assert code == 0, said
    floating = next((place / "store").glob("export-*/teacher.tflite"))
    return place / "run", [(place / "run" / "model.tflite").read_bytes(), floating.read_bytes()]


def commands(place: Path, run: Path, content: bytes, seed: int) -> dict[str, list[str]]:
    """Returns the command lines for one damaged file, which is put where they look for it."""
    file = place / f"damaged-{seed}.tflite"
    file.write_bytes(content)
    forged, plain = place / "forged", place / "plain"
    for folder in (forged, plain):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run, folder)
    forge(forged, content)
    (plain / "model.tflite").write_bytes(content)
    return {
        "inspect": ["inspect", str(file), "--json"],
        "bench": ["bench", str(file), "--runs", "10", "--json"],
        "verify": ["verify", str(plain), "--json"],
        "verify, hashes forged": ["verify", str(forged), "--json"],
    }


def main() -> None:
    """Runs what is missing and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=FILES)
    options = parser.parse_args()
    for module in IMPORTED:  # once, and not again in every fork
        importlib.import_module(module)
    table = Table(RESULTS / "flatbuffer_fuzz.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        run, originals = prepared(place)
        for first in range(0, options.files, PER_ROW):
            seeds = range(first, min(first + PER_ROW, options.files))
            suffix = f"files {first} to {seeds[-1]}"
            found: dict[str, list[tuple[int, float, str]]] = {}
            if table.done(f"inspect, {suffix}", 0) and table.done(f"verify, hashes forged, {suffix}", 0):
                continue
            for seed in seeds:
                content = mutated(originals[seed % len(originals)], seed)
                for command, arguments in commands(place, run, content, seed).items():
                    outcome = forked(arguments, place / "said")
                    found.setdefault(command, []).append(outcome)
                    if outcome[0] not in (0, 4, 5) or "Traceback" in outcome[2]:
                        print(f"seed {seed}: {command}: {outcome}", flush=True)
            for command, outcomes in found.items():
                codes = Counter(code for code, _, _ in outcomes)
                table.append(
                    f"{command}, {suffix}", 0, files=len(outcomes), exit_0=codes[0], exit_4=codes[4], exit_5=codes[5],
                    other=len(outcomes) - codes[0] - codes[4] - codes[5],
                    signals=sum(code < 0 for code, _, _ in outcomes),
                    tracebacks=sum("Traceback" in said or "internal error" in said for _, _, said in outcomes),
                    interpreter_died=sum(any(words in said for words in DIED) for _, _, said in outcomes),
                    slowest_s=round(max(seconds for _, seconds, _ in outcomes), 1),
                )  # fmt: skip
                print(table.rows()[-1], flush=True)
    for command in ("inspect", "bench", "verify", "verify, hashes forged"):
        rows = [row for row in table.rows() if row["case"].rpartition(", files")[0] == command]
        print(command, {key: sum(float(row[key]) for row in rows) for key in COLUMNS[:-1]})


if __name__ == "__main__":
    main()
