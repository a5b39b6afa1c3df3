"""Is every recipe, however broken, answered at once with exit code 0 or 2? 20,000 mutated ones in one process.

    python -m benchmarks.robustness.recipe_fuzz  # some minutes on one core; finished rows are skipped

Recipes are made from the shipped ones (tests/shared/recipe_mutations.py; a seed names each) and validated through the
error boundary of the command line, a thousand to a row; then 300 by the command, in a process each, and the hostile
ones, which are made to take time and memory. Rows go to results/recipe_fuzz.csv. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.table import RESULTS, ROOT, SOURCES, Table
from edgecompress_cli.main import invoke
from tests.shared.recipe_mutations import hostile, mutated

COLUMNS = ("recipes", "exit_0", "exit_2", "other", "tracebacks", "slowest_cpu_s", "slowest", "peak_mb")
IN_PROCESS, PER_ROW = 20_000, 1000
BY_COMMAND, PER_COMMAND_ROW = 300, 50
#: Tells the peak memory of a command from within: what a parent is told holds its own memory from the fork.
COMMAND = """
import re, sys
from edgecompress_cli.main import invoke
code = invoke(sys.argv[1:])
print("PEAK", re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""
LIMIT_S = 60


def in_process(path: Path, content: bytes) -> tuple[int, float, str, float]:
    """Returns exit code, seconds, what was said and peak megabytes (none here) of one recipe in this process."""
    path.write_bytes(content)
    said = io.StringIO()
    began = time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = invoke(["validate", str(path)])
    return code, time.process_time() - began, said.getvalue(), 0.0


def by_command(path: Path, content: bytes) -> tuple[int, float, str, float]:
    """Returns the same of the command in a process of its own."""
    path.write_bytes(content)
    before = os.times()
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", COMMAND, "validate", str(path)],
        capture_output=True, text=True, errors="replace", cwd=ROOT, timeout=LIMIT_S, check=False,
        env=os.environ | SOURCES,
    )  # fmt: skip
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    peak = float(done.stderr.rpartition("PEAK ")[2]) / 1024
    return done.returncode, seconds, done.stdout + done.stderr, peak


def measure(table: Table, case: str, recipes: Iterable[tuple[str, bytes]], *, command: bool) -> None:
    """Adds a row on some recipes, unless it is there."""
    if table.done(case, 0):
        return
    codes: list[int] = []
    tracebacks, slowest, worst, peak = 0, 0.0, "", 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.yaml")
        for name, content in recipes:
            code, seconds, said, used = (by_command if command else in_process)(path, content)
            codes.append(code)
            if "Traceback" in said or "internal error" in said:
                tracebacks += 1
                print(f"{name}: {said}")
            if seconds > slowest:
                slowest, worst = seconds, name
            peak = max(peak, used)
        left = sorted(found.name for found in Path(folder).iterdir())
        assert left == ["recipe.yaml"], left  # nothing ran
    table.append(
        case, 0, recipes=len(codes), exit_0=codes.count(0), exit_2=codes.count(2),
        other=len(codes) - codes.count(0) - codes.count(2), tracebacks=tracebacks, slowest_cpu_s=round(slowest, 3),
        slowest=worst, peak_mb=round(peak, 1) if command else "",
    )  # fmt: skip
    print(table.rows()[-1], flush=True)


def main() -> None:
    """Runs what is missing and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipes", type=int, default=IN_PROCESS)
    options = parser.parse_args()
    table = Table(RESULTS / "recipe_fuzz.csv", COLUMNS)
    for first in range(0, options.recipes, PER_ROW):
        seeds = range(first, first + PER_ROW)
        recipes = ((f"seed {seed}", mutated(seed)) for seed in seeds)
        measure(table, f"in process, seeds {first} to {seeds[-1]}", recipes, command=False)
    for first in range(0, BY_COMMAND, PER_COMMAND_ROW):
        seeds = range(IN_PROCESS + first, IN_PROCESS + first + PER_COMMAND_ROW)
        recipes = ((f"seed {seed}", mutated(seed)) for seed in seeds)
        measure(table, f"by command, seeds {seeds[0]} to {seeds[-1]}", recipes, command=True)
    measure(table, "hostile, by command", hostile().items(), command=True)
    rows = table.rows()
    total = sum(int(row["recipes"]) for row in rows)
    other = sum(int(row["other"]) + int(row["tracebacks"]) for row in rows)
    print(
        f"{total:,} recipes, {other} answered otherwise than with 0 or 2; "
        f"the slowest took {max(float(row['slowest_cpu_s']) for row in rows)} s"
    )


if __name__ == "__main__":
    main()
