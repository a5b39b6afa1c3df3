"""Is a run that is killed, at any moment, the same run? SIGKILL at points spread over time, and over every stage.

    python -m benchmarks.robustness.kill_anywhere  # about an hour on two cores; finished rows are skipped

One undisturbed run of the recipe sets the bytes to reach and how long it and its stages take. For every point the run
is started in an empty store, killed (SIGKILL; in turns its whole process group, and the command's own process alone),
and started again by the same command; its flatbuffer must be the undisturbed one, byte for byte. `--points` are shares
of the whole time; `--each` are shares of every stage's time, counted from its start, so that short stages have theirs
too. Checkpoints are written every two seconds here, as the run takes a minute or two; otherwise every thirty. Rows go
to benchmarks/results/kill_anywhere.csv.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, ROOT, SOURCES, Table

COLUMNS = ("killed", "killed_after_s", "killed_in", "exit_code", "same_bytes", "steps_done_before", "rerun_s")
RECIPE = ROOT / "recipes" / "digits.yaml"
#: The command, with checkpoints more often.
PROGRAM = """
import sys
from edgecompress.training import checkpoint
checkpoint.INTERVAL_S = 2.0
from edgecompress_cli.main import main
sys.exit(main())
"""


def command(output: Path, settings: list[str]) -> list[str]:
    """Returns the command of a run."""
    more = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-c", PROGRAM, "run", str(RECIPE), "--output", str(output), "--quiet", *more]


def digest(folder: Path) -> str:
    """Returns the SHA-256 of a run's flatbuffer."""
    return hashlib.sha256((folder / "model.tflite").read_bytes()).hexdigest()


def start(folder: Path, settings: list[str]) -> subprocess.Popen[bytes]:
    """Starts a run in a process group of its own, its store beside its output."""
    environment = {**os.environ, "EDGECOMPRESS_STORE": str(folder / "store"), **SOURCES}
    return subprocess.Popen(  # noqa: S603 - our own program
        command(folder / "run", settings), env=environment, start_new_session=True, cwd=ROOT
    )


def last_stage(folder: Path) -> str:
    """Returns the stage at work when a run ended."""
    told = events(folder)
    return (str(told[-1]["stage"]) or "between stages") if told else "before the first stage"


def resumed_steps(folder: Path) -> str:
    """Returns what the last run said of steps done before."""
    lines = (folder / "run" / "run.log").read_text().splitlines()
    return "; ".join(line.split("message=")[1] for line in lines if "steps were done before" in line)


def events(folder: Path) -> list[dict[str, Any]]:
    """Returns what a run has told so far; a line that is still being written is left out."""
    try:
        lines = (folder / "run" / "events.jsonl").read_text().split("\n")[:-1]
    except OSError:
        return []
    return [json.loads(line) for line in lines]


def stage_times(folder: Path) -> dict[str, float]:
    """Returns how long each stage of a finished run took, in seconds, in their order."""
    return {event["stage"]: event["seconds"] for event in events(folder) if event["kind"] == "stage-end"}


def await_stage(process: subprocess.Popen[bytes], folder: Path, stage: str) -> None:
    """Waits until a run has begun a stage, or ended."""
    while process.poll() is None and not any(
        event["kind"] == "stage-start" and event["stage"] == stage for event in events(folder)
    ):
        time.sleep(0.005)


def kill_once(
    folder: Path, after_s: float, expected: str, settings: list[str], *, alone: bool, stage: str | None = None
) -> dict[str, object]:
    """Returns a row: one run, killed after so many seconds and started again.

    Args:
        folder: For the run and its store.
        after_s: When.
        expected: SHA-256 of the undisturbed flatbuffer.
        settings: Overridden keys.
        alone: Whether only the command's own process is killed, as `kill -9 PID` does; else all of its group.
        stage: The one whose start the seconds are counted from; None: that of the run.
    """
    process = start(folder, settings)
    if stage is not None:
        await_stage(process, folder, stage)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        if alone:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    stage = last_stage(folder)
    began = time.monotonic()
    code = start(folder, settings).wait()
    return {
        "killed": "process" if alone else "group",
        "killed_after_s": round(after_s, 2),
        "killed_in": stage,
        "exit_code": code,
        "same_bytes": code == 0 and digest(folder / "run") == expected,
        "steps_done_before": resumed_steps(folder),
        "rerun_s": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Runs what is missing and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=30, help="spread over the whole time")
    parser.add_argument("--each", type=int, default=4, help="and over the time of each stage")
    parser.add_argument("--set", dest="settings", action="append", default=["threads=1"], help="override a recipe key")
    options = parser.parse_args()
    table = Table(RESULTS / "kill_anywhere.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "undisturbed")
        began = time.monotonic()
        if start(folder, options.settings).wait():
            sys.exit("the undisturbed run failed")
        whole = time.monotonic() - began
        expected = digest(folder / "run")
        times = stage_times(folder)
        points: list[tuple[str, float, str | None]] = [
            (f"{k} of {options.points}", whole * k / (options.points + 1), None) for k in range(1, options.points + 1)
        ]
        for stage, seconds in times.items():
            points += [
                (f"{stage} {k} of {options.each}", seconds * (k - 0.5) / options.each, stage)
                for k in range(1, options.each + 1)
            ]
        for number, (case, after_s, stage_name) in enumerate(points, 1):
            if not table.done(case, 0):
                folder = Path(name, f"killed-{number}")
                row = kill_once(folder, after_s, expected, options.settings, alone=number % 2 == 0, stage=stage_name)
                table.append(case, 0, **row)
                print(table.rows()[-1], flush=True)
                shutil.rmtree(folder)
    same = sum(row["same_bytes"] == "True" for row in table.rows())
    print(f"{same} of {len(table.rows())} killed runs ended with the same bytes")


if __name__ == "__main__":
    main()
