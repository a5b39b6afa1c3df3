"""What do links, pipes, folders and endless files do in the place of each file that is read or written?

    python -m benchmarks.robustness.special_files  # about an hour on one core; finished rows are skipped

Puts a link to a file elsewhere, a dangling one, a pipe, a folder, a link to /dev/zero and 10 GiB of holes in the place
of every file of a finished run, of its store and of what it reads, one at a time, and gives each command. Stages hand
over what a real run left (tests/shared/special_files.py). Other worlds have data and models of every kind, which
`plan --sizes` reads whole. Nothing but the run's folder and the store may change; exit codes are 0, 2 and 4 (5 of
`verify`); no command takes ten seconds longer than usual. Rows go to benchmarks/results/special_files.csv.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.table import RESULTS, ROOT, SOURCES, Table
from tests.e2e.conftest import small_recipe, stripes
from tests.shared.special_files import KINDS, Outcome, try_cases

COLUMNS = ("places", "exit_0", "exit_2", "exit_4", "exit_5", "other", "changed", "longest_delay_s", "wrong")
COMMANDS = (
    "run", "run --fresh", "run --force", "plan", "validate", "report", "verify", "analyze", "inspect", "bench",
)  # fmt: skip
READING = ("plan --sizes",)
SLOW_S = 10.0
NET = {"model": "resnet8", "args": {"width": 8}, "train": {"epochs": 1}}
#: A module that imports another. (What trusted code opens by itself is its own affair.)
MODULE = """
from parts import first
from torch import nn


def net():
    return nn.Sequential(first(), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
"""
PARTS = "from torch import nn\n\n\ndef first():\n    return nn.Conv2d(1, 4, 3, 2, 1)\n"


def pictures(folder: Path) -> dict[str, Any]:
    """Makes folders of pictures, with a list of the classes."""
    for number in range(12):
        place = folder / "data" / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 12), number * 20).save(place / f"{number}.{('png', 'jpg')[number % 3 == 0]}")
    (folder / "data" / "classes.txt").write_text("a\nb\n")
    return {"data": {"source": "image-folder", "path": "data"}, "student": NET}


def recordings(folder: Path) -> dict[str, Any]:
    """Makes folders of recordings."""
    for number in range(8):
        place = folder / "data" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        with wave.open(str(place / f"{number}.wav"), "wb") as stream:
            stream.setparams((1, 2, 8000, 0, "NONE", ""))
            stream.writeframes(np.full(8000, number, "<i2").tobytes())
    return {
        "task": "audio-classification",
        "data": {"source": "wav-folder", "path": "data", "audio": {"sample_rate": 8000}},
        "student": {"model": "ds-cnn", "train": {"epochs": 1}},
    }


def tables(folder: Path) -> dict[str, Any]:
    """Makes a table of numbers."""
    rows = [f"{number},{number % 7},{number % 5}" for number in range(60)]
    (folder / "table.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    return {
        "task": "regression",
        "data": {"source": "csv", "path": "table.csv", "label": "y"},
        "student": {"model": "mlp", "train": {"epochs": 1}},
    }


def module(folder: Path) -> dict[str, Any]:
    """Makes a network in a module of its own, which imports another, with weights."""
    stripes(folder / "stripes.npz")
    (folder / "net.py").write_text(MODULE)
    (folder / "parts.py").write_text(PARTS)
    program = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); import net; from safetensors.torch import save_file; "
        "state = net.net().state_dict(); save_file(state, sys.argv[1] + '/w.safetensors'); "
        "torch.save(state, sys.argv[1] + '/w.pt')"
    )
    subprocess.run([sys.executable, "-B", "-c", program, str(folder)], check=True)  # noqa: S603 - our own program
    return {
        "data": {"source": "npz", "path": "stripes.npz"},
        "teacher": {"model": "python:net:net", "weights": "w.safetensors", "train": {"epochs": 1}},
        "student": {"model": "python:net:net", "weights": "w.pt"},
        "distill": {"train": {"epochs": 1}},
    }


WORLDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "pictures": pictures, "recordings": recordings, "tables": tables, "module": module,
}  # fmt: skip


def row(outcomes: list[Outcome]) -> dict[str, object]:
    """Returns what a table says of one command and one kind."""
    codes = [outcome.code for outcome in outcomes]
    wrong = [f"{one.case.place}: {one.code} {' '.join(one.said.split())[-200:]}" for one in outcomes if not one.holds]
    slow = [f"{one.case.place}: {one.seconds} s longer" for one in outcomes if one.seconds > SLOW_S]
    return {
        "places": len(outcomes),
        **{f"exit_{code}": codes.count(code) for code in (0, 2, 4, 5)},
        "other": sum(code not in (0, 2, 4, 5) for code in codes),
        "changed": sum(bool(one.changed) for one in outcomes),
        "longest_delay_s": max([0.0, *(one.seconds for one in outcomes)]),
        "wrong": "; ".join([*wrong, *slow])[:1000],
    }


def sweep(table: Table, world: str, folder: Path, store: Path | None, names: tuple[str, ...]) -> None:
    """Tries what has no row yet."""
    pairs = [(name, kind) for name in names for kind in KINDS if not table.done(f"{world}, {name}, {kind}", 0)]
    if not pairs:
        return

    def key(outcome: Outcome) -> tuple[str, str]:
        return outcome.case.command, outcome.case.kind

    found: Iterator[Outcome] = try_cases(folder / "recipe.yaml", store, pairs)
    for (name, kind), outcomes in itertools.groupby(found, key):
        table.append(f"{world}, {name}, {kind}", 0, **row(list(outcomes)))
        print(table.rows()[-1], flush=True)


def main() -> None:
    """Runs what is missing and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("worlds", nargs="*", help=f"of run, {', '.join(WORLDS)}; all by default")
    parser.add_argument("--commands", nargs="+", default=COMMANDS, help="of the run's")
    options = parser.parse_args()
    wanted = options.worlds or ["run", *WORLDS]
    table = Table(RESULTS / "special_files.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as place:
        if "run" in wanted:
            folder, store = Path(place, "run"), Path(place, "store")
            folder.mkdir()
            stripes(folder / "stripes.npz")
            (folder / "recipe.yaml").write_text(yaml.safe_dump(small_recipe()))
            made = [sys.executable, "-m", "edgecompress", "run", "recipe.yaml", "--quiet", "--output", "../first"]
            environment = {**os.environ, "EDGECOMPRESS_STORE": str(store), **SOURCES}
            subprocess.run(made, cwd=folder, env={**environment, "PYTHONSAFEPATH": "1"}, check=True)  # noqa: S603
            sweep(table, "run", folder, store, tuple(options.commands))
        for name in (name for name in wanted if name in WORLDS):
            folder = Path(place, name)
            folder.mkdir()
            recipe = {"version": 1, **WORLDS[name](folder)}
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            sweep(table, name, folder, None, READING)
    rows = table.rows()
    bad = [row["case"] for row in rows if row["wrong"] or row["changed"] != "0" or row["other"] != "0"]
    print(f"{sum(int(row['places']) for row in rows)} cases in {len(rows)} rows; not as they must be: {bad or 'none'}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
