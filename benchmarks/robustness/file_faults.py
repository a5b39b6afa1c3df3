"""What does a file system that refuses do to a run? Every write in its turn, and thirty whole runs.

    python -m benchmarks.robustness.file_faults  # about half an hour on one core; finished rows are skipped

A shim under the C library (tests/shared/fault_shim.c) lets the k-th change of a file fail with ENOSPC, EIO or EACCES:
temporary files included. Each must end with exit code 4, no traceback and nothing that is not whole, and end well
when the same command is run again, with the same flatbuffer. Rows go to benchmarks/results/file_faults.csv.
when the same command is run again, with the same flatbuffer. Rows go to benchmarks/results/file_faults.csv.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.table import RESULTS, ROOT, SOURCES, Table
from tests.e2e.conftest import small_recipe, stripes
from tests.shared.faults import ERRORS, Case, build_shim, count_changes, run_cases

COLUMNS = ("runs", "exit_4", "exit_0", "other", "tracebacks", "not_whole", "rerun_fine", "said")
PER_ROW = 50
WHOLE = 30
LIMIT_S = 900


def command(recipe: Path, folder: Path, shim: Path | None = None, **fault: str) -> tuple[int, str]:
    """Returns exit code and what was said by a whole run, its store and temporary files in one folder."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ, "EDGECOMPRESS_STORE": str(folder / "store"), "TMPDIR": str(folder / "tmp"),
        **SOURCES,
    }  # fmt: skip
    if shim is not None:
        environment |= {"LD_PRELOAD": str(shim), "FAULT_FOLDER": str(folder), **fault}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "edgecompress", "run", str(recipe), "--output", str(folder / "run"), "--quiet"],
        env=environment, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, cwd=ROOT,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def digest(folder: Path) -> str:
    """Returns the SHA-256 of a run's flatbuffer, "" where there is none."""
    model = folder / "run" / "model.tflite"
    return hashlib.sha256(model.read_bytes()).hexdigest() if model.is_file() else ""


def traced(said: str) -> bool:
    """Returns whether a run showed a traceback, or had one in its log."""
    return "Traceback" in said or "internal error" in said


def every_write(table: Table, place: Path, recipe: Path, shim: Path) -> None:
    """Adds the rows on runs with stubbed stages."""
    store = place / "finished" / "store"
    total = count_changes(shim, recipe, store)
    print(f"a run makes {total} changes of files")
    for error, lasting in (*((name, False) for name in ERRORS), ("ENOSPC", True)):
        for first in range(1, total + 1, PER_ROW):
            places = range(first, min(first + PER_ROW, total + 1))
            case = f"{error}{', and all after it,' if lasting else ''} at change {first} to {places[-1]} of {total}"
            if table.done(case, 0):
                continue
            cases = [Case(at, error, lasting) for at in places]
            outcomes = list(run_cases(shim, recipe, store, cases))
            codes = [outcome.code for outcome in outcomes]
            table.append(
                case, 0, runs=len(codes), exit_4=codes.count(4), exit_0=codes.count(0),
                other=len(codes) - codes.count(4) - codes.count(0), tracebacks=sum(traced(o.said) for o in outcomes),
                not_whole=sum(bool(o.broken) and not lasting for o in outcomes),
                rerun_fine=sum(o.again == 0 and o.same for o in outcomes), said="",
            )  # fmt: skip
            print(table.rows()[-1], flush=True)
            for one, outcome in zip(cases, outcomes, strict=True):
                if outcome.code != 4 or not outcome.same or (outcome.broken and not lasting):
                    print(f"  {one}: {outcome}")


def whole_runs(table: Table, place: Path, recipe: Path, shim: Path) -> None:
    """Adds the rows on whole runs."""
    folder = place / "counted"
    log = place / "changes"
    code, said = command(recipe, folder, shim, FAULT_AT="0", FAULT_LOG=str(log))
    assert code == 0, said
    total, expected = max(int(line) for line in log.read_text().split()), digest(folder)
    assert total > WHOLE, "the shim counted nothing"
    for number in range(WHOLE):
        error = list(ERRORS)[number % len(ERRORS)]
        at = 1 + total * number // WHOLE
        case = f"whole run {number + 1}: {error}"
        if table.done(case, 0):
            continue
        folder = place / f"whole-{number}"
        code, said = command(recipe, folder, shim, FAULT_AT=str(at), FAULT_ERRNO=str(ERRORS[error]))
        again, _ = command(recipe, folder)
        table.append(
            case, 0, runs=1, exit_4=int(code == 4), exit_0=int(code == 0), other=int(code not in (0, 4)),
            tracebacks=int(traced(said)), not_whole="", rerun_fine=int(again == 0 and digest(folder) == expected),
            said=f"change {at} of {total}: " + " ".join(said.split()).replace(str(folder), "..."),
        )  # fmt: skip
        print(table.rows()[-1], flush=True)
        shutil.rmtree(folder)


def main() -> None:
    """Runs what is missing and prints a summary."""
    table = Table(RESULTS / "file_faults.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shim, recipe = build_shim(place), place / "small.yaml"
        stripes(place / "stripes.npz")
        recipe.write_text(yaml.safe_dump(small_recipe()))
        code, said = command(recipe, place / "finished")
        assert code == 0, said
        every_write(table, place, recipe, shim)
        # Without pruning, whose timings take long and may decide otherwise in another run.
        short = {key: value for key, value in small_recipe().items() if key not in ("student", "distill", "prune")}
        recipe.write_text(yaml.safe_dump(short))
        whole_runs(table, place, recipe, shim)
    rows = table.rows()
    for column in ("runs", "exit_4", "exit_0", "other", "tracebacks", "rerun_fine"):
        print(f"{column}: {sum(int(row[column]) for row in rows)}")


if __name__ == "__main__":
    main()
