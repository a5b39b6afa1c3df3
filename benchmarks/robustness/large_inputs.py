"""What do small inputs cost that are made to take memory and time? Each with `validate`, `plan` and `run`.

    python -m benchmarks.robustness.large_inputs               # half an hour on one core; finished rows are skipped
    python -m benchmarks.robustness.large_inputs wav csv       # those whose names begin so

Commands run in forks of one process that has imported everything. Beside the exit code, a row has the first line of the
message, the seconds, and the memory at its peak beyond that of the same command on the harmless input of its kind. What
must hold: exit code 0, 2 or 4, less than 1 GiB, and no more than 10 seconds beyond what it takes to read a good input.
Rows go to results/large_inputs.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.forks import fork
from benchmarks.robustness.attack_list import ATTACKS
from benchmarks.robustness.attacks import MIB, Attack
from benchmarks.table import RESULTS, Table
from benchmarks.zoo.run import message

COLUMNS = ("command", "exit", "message", "seconds", "good_seconds", "peak_mib_beyond_good")
COMMANDS = {
    "validate": ("validate", "recipe.yaml"),
    "plan": ("plan", "recipe.yaml"),
    "run": ("run", "recipe.yaml", "--until", "distill", "--output", "out"),
    "report": ("report", "out"),
}
LIMIT_S = 120.0
#: Beyond what the imports take: an attack that is not met dies alone.
ADDRESSES = 8 * 1024 * MIB


def measured(work: Callable[[], int | None], said: Path, limit_s: float) -> tuple[int | str, float, float]:
    """Returns the exit code of work done in a process of its own (below 0: a signal), its seconds and its peak MiB."""
    began = time.monotonic()

    def limit() -> None:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESSES, taken + ADDRESSES))

    pid = fork(work, said, limit)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        seconds = time.monotonic() - began
        if done:
            return os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / 1024
        if seconds > limit_s:
            os.killpg(pid, signal.SIGKILL)
            _, _, usage = os.wait4(pid, 0)
            return "timeout", seconds, usage.ru_maxrss / 1024
        time.sleep(0.02)


def command(folder: Path, words: tuple[str, ...]) -> int:
    """Runs a command as the command line does."""
    from edgecompress_cli.main import invoke

    os.chdir(folder)
    os.environ["EDGECOMPRESS_STORE"] = str(folder / "store")
    return invoke(words)


def write(attack: Attack, folder: Path) -> None:
    """Writes an input and its recipe."""
    folder.mkdir()
    attack.make(folder)
    recipe = {
        "version": 1, "task": attack.task, "data": attack.data, "student": {**attack.student, "train": {"epochs": 1}},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))


def outcomes(attack: Attack, scratch: Path) -> dict[str, dict[str, Any]]:
    """Returns exit code, message, seconds and peak of each command on an input."""
    folder = scratch / attack.name.replace("/", "-").replace(" ", "-")
    code, _, _ = measured(partial(write, attack, folder), scratch / "made", LIMIT_S)
    if code:
        raise SystemExit(f"{attack.name} could not be made: {(scratch / 'made').read_text()}")
    found = {}
    for name, words in COMMANDS.items():
        if name == "report" and not (folder / "out" / "report.json").exists():
            continue
        said = folder / "said"
        code, seconds, peak = measured(partial(command, folder, words), said, LIMIT_S)
        told = "" if code == 0 else message(said)
        found[name] = {"exit": code, "message": told, "seconds": round(seconds, 2), "peak": peak}
    measured(partial(_remove, folder), scratch / "made", LIMIT_S)
    return found


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="how the names begin of those that are run")
    parser.add_argument("--table", type=Path, default=RESULTS / "large_inputs.csv")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    from benchmarks.zoo.run import imported

    imported()
    table = Table(options.table, COLUMNS)
    good: dict[str, dict[str, dict[str, Any]]] = {}
    harmless = {attack.name: attack for attack in ATTACKS if attack.name.endswith(": good")}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary).resolve()
        for attack in ATTACKS:
            chosen = not options.names or attack.name.startswith(tuple(options.names))
            if attack.name in harmless or not chosen or table.done(f"{attack.name}, validate", 0):
                continue
            if attack.good not in good:
                good[attack.good] = outcomes(harmless[attack.good], scratch)
            for name, one in outcomes(attack, scratch).items():
                usual = good[attack.good].get(name, {"seconds": 0.0, "peak": 0.0})
                table.append(
                    f"{attack.name}, {name}", 0, command=name, exit=one["exit"], message=one["message"],
                    seconds=one["seconds"], good_seconds=usual["seconds"],
                    peak_mib_beyond_good=round(one["peak"] - usual["peak"], 1),
                )  # fmt: skip
                print({key: value for key, value in table.rows()[-1].items() if value}, flush=True)
        for name, found in good.items():
            if any(one["exit"] for one in found.values()):
                print(f"{name} is none: {found}")


if __name__ == "__main__":
    main()
