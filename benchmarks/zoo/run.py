"""The zoo: what becomes of anyone's model. Libraries' models, Hugging Face architectures and PyTorch's idioms.

    python -m benchmarks.zoo.run                          # all; hours on one core; finished rows are skipped
    python -m benchmarks.zoo.run --only idioms nn.GRU     # a group, or rows by their names
    python -m benchmarks.zoo.run --again hf/bert          # rows that are there are measured anew
    python -m benchmarks.zoo.table                        # writes the table into docs/zoo.md

Each row is a whole run as a user has it, with weights that are given and PTQ, in a fork of one process that has
imported everything. Batch norms have been run over the data first, and layers that begin at zero were given numbers,
so that random weights give answers that differ. Rows whose run is refused with an offer of `quantize.allow: [float32]`
are run again with that, and have both outcomes. To save time, layers are looked at less closely than in a real run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.forks import fork
from benchmarks.table import RESULTS, Table
from benchmarks.zoo.entry import Entry
from benchmarks.zoo.groups import GROUPS

PATH = RESULTS / "zoo.csv"
COLUMNS = (
    "group", "params", "exit", "message", "allowed_exit", "allowed_message", "not_int8", "agreement", "input_alone",
    "twin", "spread", "bytes", "latency", "seconds",
)  # fmt: skip
LIMIT_S = 300.0
#: What is offered where an operator has no INT8 kernel, and how it is taken up.
OFFER, ALLOW = "float32", ("--set", "quantize.allow=[float32]")
#: Exit codes with which a flatbuffer may lie in the run's folder.
RAN = (0, 3, 5)
LONGEST_MESSAGE = 400
#: Where packages lie on this machine, which says nothing on others.
ELSEWHERE = re.compile(r"/\S*/site-packages/")
TIMEOUT, BROKEN = "timeout", "not built"


def imported() -> None:
    """Imports what every run needs, once, and lets the analysis look at as little as it may."""
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    import ai_edge_litert.interpreter
    import ai_edge_quantizer
    import litert_torch

    import edgecompress.stages.before.preflight
    import edgecompress.stages.table  # noqa: F401
    from edgecompress.sources.torchvision_import import import_torchvision
    from edgecompress.stages import verify
    from edgecompress.stages.verifying import analysis

    import_torchvision()
    import timm
    import transformers

    del ai_edge_litert, ai_edge_quantizer, litert_torch, timm, transformers
    vars(verify)["analyse_run"] = partial(analysis.analyse_run, effort=1.0)


def forked(work: Callable[[], int | None], said: Path, limit_s: float) -> int | str:
    """Returns the exit code of work done in a process of its own, below 0 for a signal, or that its time was up."""
    pid = fork(work, said)
    until = time.monotonic() + limit_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return TIMEOUT
        time.sleep(0.05)


def run_product(folder: Path, more: tuple[str, ...]) -> int:
    """Runs the recipe of a folder as the command line does."""
    from edgecompress_cli.main import invoke

    os.chdir(folder)
    os.environ["EDGECOMPRESS_STORE"] = str(folder / "store")
    return invoke(["run", "recipe.yaml", "--trust", "--output", "out", *more])


def message(said: Path) -> str:
    """Returns the first line of the message that a run ended with, or its last line where there is none."""
    lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    found = errors[-1].removeprefix("error:") if errors else lines[-1] if lines else ""
    return ELSEWHERE.sub("", found.strip().replace(str(said.parent), "."))[:LONGEST_MESSAGE]


def outcome(entry: Entry, scratch: Path, limit_s: float) -> dict[str, Any]:
    """Returns a row's columns."""
    from benchmarks.zoo.measure import measure
    from benchmarks.zoo.prepare import TooLargeError, make

    started, folder, said = time.monotonic(), scratch / "row", scratch / "said"
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"group": entry.group}
    shutil.rmtree(folder, ignore_errors=True)

    def made() -> int:
        try:
            make(entry, folder)
        except TooLargeError as error:
            print(error)
            return 3
        return 0

    code = forked(made, said, limit_s)
    if code:
        return row | {"exit": "left out" if code == 3 else BROKEN, "message": message(said)}
    row["params"] = json.loads((folder / "made.json").read_text())["params"]
    code = forked(partial(run_product, folder, ()), said, limit_s)
    row |= {"exit": shown(code), "message": "" if code == 0 else message(said)}
    if code in (4, 5) and OFFER in said.read_text(errors="replace"):
        shutil.rmtree(folder / "out", ignore_errors=True)
        code = forked(partial(run_product, folder, ALLOW), said, limit_s)
        row |= {"allowed_exit": shown(code), "allowed_message": "" if code == 0 else message(said)}
    row["seconds"] = round(time.monotonic() - started, 1)
    if code in RAN and (folder / "out" / "report.json").is_file():
        figures = scratch / "figures.json"

        def measured() -> None:
            figures.write_text(json.dumps(measure(entry, folder)))

        figures.unlink(missing_ok=True)
        if forked(measured, said, limit_s) == 0:
            row |= json.loads(figures.read_text())
        else:
            row["agreement"] = f"not measured: {message(said)}"
    return row


def shown(code: int | str) -> str:
    """Returns an exit code as the table has it."""
    return f"crash ({signal.Signals(-code).name})" if isinstance(code, int) and code < 0 else str(code)


def chosen(groups: Iterable[str], names: Iterable[str]) -> list[Entry]:
    """Returns the entries asked for; no names: all of the groups."""
    wanted = set(names)
    entries = [entry for group in groups for entry in GROUPS[group]()]
    known = {name for entry in entries for name in (entry.name, entry.case)}
    if unknown := wanted - known:
        raise SystemExit(f"no such models: {', '.join(sorted(unknown))}")
    return [entry for entry in entries if not wanted or wanted & {entry.name, entry.case}]


def main() -> None:
    """Runs the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", default=[], metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("names", nargs="*", help="rows, by their names, with or without the group")
    parser.add_argument("--again", action="store_true", help="also rows that are there; the table shows the last one")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--table", type=Path, default=PATH)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of each part of a row")
    parser.add_argument("--keep", type=Path, help="a folder to work in, where the last row's files stay")
    options = parser.parse_args()
    table = Table(options.table, COLUMNS)
    # `--only hf bert`: what follows the groups and is none is a row.
    groups = [group for group in options.only if group in GROUPS] or list(GROUPS)
    entries = chosen(groups, [*options.names, *(name for name in options.only if name not in GROUPS)])
    if options.list:
        print("\n".join(entry.case for entry in entries))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    imported()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            if table.done(entry.case, 0) and not options.again:
                continue
            row = {"exit": "left out", "group": entry.group, "message": entry.left_out}
            table.append(entry.case, 0, **(row if entry.left_out else outcome(entry, scratch.resolve(), options.limit)))
            print({key: value for key, value in table.rows()[-1].items() if value}, flush=True)


if __name__ == "__main__":
    main()
