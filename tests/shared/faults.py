"""Runs with a file system that refuses: every write of a run in its turn, with the training stubbed.

`run_cases` starts this file as a program under the shim (fault_shim.c): it imports what is heavy once and forks for
each case; stages hand over what a real run left.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        at: Which change of a file fails, from 1.
        error: What it fails with.
        lasting: Whether all later ones fail too, as on a full disk.
    """

    at: int
    error: str
    lasting: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        code: Exit code of the run.
        said: What it wrote to the terminal.
        broken: Finished stages that cannot be used, and files that are not whole.
        again: Exit code of the same command without a fault.
        same: Whether that one's flatbuffer is the undisturbed run's.
    """

    code: int
    said: str
    broken: list[str]
    again: int
    same: bool


def build_shim(folder: Path) -> Path:
    """Returns the compiled shim."""
    path = folder / "fault_shim.so"
    source = Path(__file__).with_name("fault_shim.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"], check=True)
    return path


def run_cases(shim: Path, recipe: Path, store: Path, cases: Sequence[Case]) -> Iterator[Outcome]:
    """Yields the outcome of each case.

    Args:
        shim: What `build_shim` gave.
        recipe: A recipe all of whose stages are finished.
        store: Where they are.
        cases: The faults.
    """
    request = json.dumps([vars(case) for case in cases])
    command = [sys.executable, "-m", "tests.shared.faults", str(shim), str(recipe), str(store), request]
    sources = os.pathsep.join(str(ROOT / part) for part in ("compress", "cli", ""))  # these, whatever is installed
    environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": sources, "OMP_NUM_THREADS": "1"}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # it would be written at the end of every fork
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            yield Outcome(**json.loads(line))
    assert server.returncode == 0


def count_changes(shim: Path, recipe: Path, store: Path) -> int:
    """Returns how many changes of files an undisturbed run makes."""
    (outcome,) = run_cases(shim, recipe, store, [Case(0, "ENOSPC")])
    assert outcome.code == 0, outcome.said
    return int(outcome.said.rpartition(" ")[2])


def stub_stages(store: Path, recipe: Path) -> dict[str, ModuleType]:
    """Returns modules to put in the place of the real ones: their stages write what those left in a store."""
    from edgecompress.pipeline.plan import make_plan
    from edgecompress.recipe.reading.load import load_recipe
    from edgecompress.recipe.steps import STAGE_ORDER
    from edgecompress.report import document as report
    from edgecompress.store.files import write_bytes
    from edgecompress.store.store import Store

    finished = {step.stage: step.result for step in make_plan(load_recipe(recipe), Store(store)).steps}
    assert all(finished.values()), "run the recipe first"

    def stub(stage: str) -> Any:
        result = finished[stage]
        assert result is not None

        def run(bench: Any, work: Path) -> dict[str, Any]:
            for done in range(2):
                bench.ctx.progress(done, 2)
                write_bytes(bench.ctx.checkpoints / f"{stage}.checkpoint", b"weights")
            for name, artifact in result.artifacts.items():
                write_bytes(work / name, artifact.path.read_bytes())
            bench.ctx.note("written")
            return result.metrics

        return run

    class Workbench:
        def __init__(self, recipe: Any, ctx: Any, _store: Any) -> None:
            self.ctx, self.recipe, self.results = ctx, recipe, {}

    stages, preflight = ModuleType("edgecompress.stages.table"), ModuleType("edgecompress.stages.before.preflight")
    stages.Workbench = Workbench  # type: ignore[attr-defined]
    stages.STAGES = {stage: stub(stage) for stage in STAGE_ORDER if stage in finished}  # type: ignore[attr-defined]
    preflight.preflight = lambda _bench, _todo: None  # type: ignore[attr-defined]
    report.picture = lambda _report: b"\x89PNG"  # drawing takes longer than all the rest
    return {"edgecompress.stages.table": stages, "edgecompress.stages.before.preflight": preflight}


def _run(folder: Path, recipe: Path) -> int:
    from edgecompress_cli.main import invoke

    os.environ["EDGECOMPRESS_STORE"] = str(folder / "store")
    return invoke(["run", str(recipe), "--output", str(folder / "run"), "--quiet"])


def _forked(folder: Path, recipe: Path, shim: ctypes.CDLL, case: Case | None) -> tuple[int, str]:
    """Returns exit code and what was said by a run in a process of its own."""
    said = folder.with_suffix(".said")
    child = os.fork()
    if not child:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 99
        try:
            if case is not None:
                shim.fault_set(f"{folder}/".encode(), case.at, ERRORS[case.error], int(case.lasting))
            code = _run(folder, recipe)
            os.write(2, f"changes: {shim.fault_seen()}".encode())
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), said.read_text(errors="replace")


def _broken(folder: Path, expected: bytes) -> list[str]:
    """Returns what a run that was refused something left in disorder."""
    from edgecompress.store.store import MANIFEST, Store

    found = []
    store = Store(folder / "store")
    for manifest in (folder / "store").glob(f"*/{MANIFEST}"):
        stage, _, _ = manifest.parent.name.rpartition("-")
        fingerprint = json.loads(manifest.read_bytes())["fingerprint"]
        result, why = store.load(stage, fingerprint)
        if result is None:
            found.append(f"{stage}: {why}")
    model, report = folder / "run" / "model.tflite", folder / "run" / "report.json"
    if model.exists() and model.read_bytes() != expected:
        found.append("model.tflite is not whole")
    if report.exists():
        json.loads(report.read_bytes())
    found += [path.name for path in folder.rglob(".*.partial") if path.is_file()]
    return found


def main(shim_path: str, recipe: str, store: str, request: str) -> None:
    """Answers one line per case."""
    shim = ctypes.CDLL(shim_path)
    sys.modules |= stub_stages(Path(store), Path(recipe))
    with tempfile.TemporaryDirectory(dir=Path(store).parent) as place:
        assert _run(Path(place, "first"), Path(recipe)) == 0  # imports all that the forks would import each
        folder = Path(place, "undisturbed")
        code, said = _forked(folder, Path(recipe), shim, None)
        assert code == 0, said
        expected = (folder / "run" / "model.tflite").read_bytes()
        for number, entry in enumerate(json.loads(request)):
            folder = Path(place, f"case-{number}")
            folder.mkdir()
            code, said = _forked(folder, Path(recipe), shim, Case(**entry))
            broken = _broken(folder, expected)
            again, _ = _forked(folder, Path(recipe), shim, None)
            model = folder / "run" / "model.tflite"
            same = model.is_file() and model.read_bytes() == expected and not _broken(folder, expected)
            sys.stdout.write(json.dumps(vars(Outcome(code, said, broken, again, same))) + "\n")
            sys.stdout.flush()
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
