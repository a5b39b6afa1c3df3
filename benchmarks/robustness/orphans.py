"""Does anything of ours go on when a command is ended from outside? Four signals, at moments spread over its time.

    python -m benchmarks.robustness.orphans  # about half an hour on one core; finished rows are skipped

`inspect` and `bench` of a small run's flatbuffer, `inspect` of one that never answers, `verify` of that run's folder,
and the run itself are started, each in a session of its own, and the process that was started is sent SIGTERM, SIGKILL,
SIGHUP or SIGINT in turns. Whatever it has started knows a mark in its environment, by which it is found, whoever its
parent is by then. Rows go to benchmarks/results/orphans.csv.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import yaml

from benchmarks.table import RESULTS, ROOT, SOURCES, Table
from tests.e2e.conftest import small_recipe, stripes
from tests.shared.endless import endless
from tests.shared.processes import marked

COLUMNS = ("signal", "killed_after_s", "processes_then", "exit_code", "left_after_2s", "gone_after_s")
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT)
MARK = "EDGECOMPRESS_ORPHANS"
#: What may pass until nothing of ours is there any more, and how long what is there all the same is watched.
MAY_TAKE_S, WATCHED_S = 2.0, 60.0
#: A command that never ends is killed within this time.
ENDLESS_S = 20.0


def start(arguments: list[str], store: Path, mark: str) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own; it and what it starts bear the mark."""
    environment = {**os.environ, "EDGECOMPRESS_STORE": str(store), MARK: mark, **SOURCES}
    command = [sys.executable, "-m", "edgecompress", *arguments]
    return subprocess.Popen(  # noqa: S603 - our own program
        command, env=environment, start_new_session=True, cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_once(arguments: list[str], store: Path, number: signal.Signals, after_s: float) -> dict[str, object]:
    """Returns a row: one command, ended after so many seconds."""
    mark = uuid.uuid4().hex
    process = start(arguments, store, mark)
    time.sleep(after_s)
    then = len(marked(MARK, mark))
    process.send_signal(number)
    began = time.monotonic()
    left: int | None = None
    while True:
        process.poll()  # or its remains would count
        there = marked(MARK, mark)
        passed = time.monotonic() - began
        if left is None and passed >= MAY_TAKE_S:
            left = len(there)
        if not there or passed > WATCHED_S:
            break
        time.sleep(0.02)
    for orphan in there:  # all of them are ours
        os.kill(orphan, signal.SIGKILL)
    return {
        "signal": number.name,
        "killed_after_s": round(after_s, 2),
        "processes_then": then,
        "exit_code": process.wait(),
        "left_after_2s": left or 0,
        "gone_after_s": "" if there else round(passed, 2),
    }


def prepared(place: Path) -> dict[str, tuple[list[str], float]]:
    """Returns the commands, each with the seconds that it takes undisturbed."""
    stripes(place / "stripes.npz")
    short = {key: value for key, value in small_recipe().items() if key not in ("student", "distill", "prune")}
    (place / "small.yaml").write_text(yaml.safe_dump(short))
    (place / "endless.tflite").write_bytes(endless())
    model = str(place / "kept" / "model.tflite")
    run = ["run", str(place / "small.yaml"), "--quiet", "--output"]
    took = {}
    for name, arguments in {
        "run": [*run, str(place / "kept")],
        "inspect": ["inspect", model],
        "bench": ["bench", model, "--runs", "2000"],
        "verify": ["verify", str(place / "kept")],
    }.items():
        began = time.monotonic()
        if start(arguments, place / "store", "undisturbed").wait():
            sys.exit(f"the undisturbed {name} failed")
        took[name] = (arguments, time.monotonic() - began)
    return {
        "inspect": took["inspect"],
        "inspect, a file that never answers": (["inspect", str(place / "endless.tflite")], ENDLESS_S),
        "bench": took["bench"],
        "verify": took["verify"],
        "run": ([*run, str(place / "again")], took["run"][1]),
    }


def main() -> None:
    """Runs what is missing and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=20, help="moments in each command")
    options = parser.parse_args()
    # A shell that starts this in the background has it ignore SIGINT; the commands are not to inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    table = Table(RESULTS / "orphans.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for command, (arguments, seconds) in prepared(place).items():
            for point in range(1, options.points + 1):
                case = f"{command}, {point} of {options.points}"
                if table.done(case, 0):
                    continue
                # A run is to do its work each time.
                store = place / ("store-again" if command == "run" else "store")
                row = kill_once(arguments, store, SIGNALS[point % len(SIGNALS)], seconds * point / (options.points + 1))
                table.append(case, 0, **row)
                print(table.rows()[-1], flush=True)
                for folder in (place / "again", place / "store-again"):
                    shutil.rmtree(folder, ignore_errors=True)
    rows = table.rows()
    clean = sum(row["left_after_2s"] == "0" for row in rows)
    print(f"{clean} of {len(rows)} commands left nothing behind two seconds later")


if __name__ == "__main__":
    main()
