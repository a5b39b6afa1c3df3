"""A run that was cut off inside its trainings goes on there and makes the same file; two runs never mix."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from edgecompress.context import Event
from edgecompress.errors import DataError, ExitCode, ResourceError
from edgecompress.pipeline.run import Outcome
from edgecompress.store.file_lock import exclusive
from edgecompress.store.files import sealed, sha256_file, write_json
from edgecompress.store.store import Store
from edgecompress.training import checkpoint
from tests.e2e.conftest import stripes
from tests.shared import special_files
from tests.shared.faults import ERRORS, Case, build_shim, count_changes, run_cases
from tests.shared.processes import HUNG_S, unmeasured

ROOT = Path(__file__).parents[2]
#: Runs a recipe again and again, each time in a fork of itself that ends its own process (SIGKILL) at the n-th event of
#: a kind in a stage. It has imported what takes seconds and has no threads yet: one forked from the tests would have
#: the converter's locks without the threads that release them.
KILLED = """
import gc, os, signal, sys
from pathlib import Path

from ai_edge_quantizer import quantizer
from litert_torch.backend.jax_bridge import _wrap

import edgecompress.stages.pruning.yardstick
from edgecompress.stages.before import preflight
from edgecompress.store.store import Store
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.tflite.lowering import caches
from edgecompress.training import checkpoint

recipe, store, output = map(Path, sys.argv[1:])

def timed(paths, _spec, _runs):  # this and below as in conftest.py
    sizes = {label: path.stat().st_size for label, path in paths.items()}
    return {label: (1e-6 * size, size / next(iter(sizes.values()))) for label, size in sizes.items()}

def run(stage, kind, count):
    seen = 0

    def listen(event):
        nonlocal seen
        seen += event.kind == kind and event.stage == stage
        if seen == int(count):
            os.kill(os.getpid(), signal.SIGKILL)

    run_pipeline(load_recipe(recipe, ()), output=output, store=Store(store), listeners=(listen,))

edgecompress.stages.pruning.yardstick.timed = timed
preflight.networks = lambda _bench: []
checkpoint.INTERVAL_S = 0.0
caches.install(_wrap)
gc.freeze()
threads = Path("/proc/self/task")
assert not threads.exists() or len(list(threads.iterdir())) == 1, "a fork would have its locks, but not its threads"
for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            run(*line.split())
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def kill_at(kitchen: Path, tmp_path: Path) -> Iterator[Callable[[str, str, int], None]]:
    """Runs the small recipe, from the store `store` into the folder `killed`, in a process that ends itself there."""
    said = tmp_path / "said"
    with said.open("w") as errors, subprocess.Popen(
        [sys.executable, "-c", KILLED, kitchen / "small.yaml", tmp_path / "store", kitchen / "killed"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=unmeasured(os.environ), cwd=ROOT,
    ) as server:  # fmt: skip

        def run(stage: str, kind: str, count: int) -> None:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(f"{stage} {kind} {count}\n")
            server.stdin.flush()
            assert server.stdout.readline() == f"{-signal.SIGKILL}\n", said.read_text()[-2000:]

        yield run
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(HUNG_S) == 0


def test_the_flatbuffer_is_the_same_after_a_kill_in_every_stage(
    cook: Callable[..., Outcome],
    kill_at: Callable[[str, str, int], None],
    kitchen: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A few points; benchmarks/robustness/kill_anywhere.py kills the command at thirty."""
    undisturbed = cook()
    assert undisturbed.exit_code == ExitCode.DONE
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.0)
    store = Store(tmp_path / "store")
    for stage, kind, count in [("distill", "epoch", 1), ("prune", "epoch", 2), ("quantize", "epoch", 1)]:
        kill_at(stage, kind, count)
        (left,) = (store.root / "checkpoints").iterdir()
        assert left.name.startswith(stage)
        assert (kitchen / "killed" / ".lock").exists()  # nobody holds it
    kill_at("verify", "stage-start", 1)
    events: list[Event] = []
    outcome = cook(store=store, output="killed", listeners=[events.append])
    assert outcome.exit_code == ExitCode.DONE
    cached = [event.stage for event in events if event.kind == "stage-cached"]
    assert cached == ["teacher", "distill", "prune", "quantize", "export"]
    assert sha256_file(kitchen / "killed" / "model.tflite") == sha256_file(kitchen / "run" / "model.tflite")
    assert not list((store.root / "checkpoints").iterdir())
    assert not [path for path in tmp_path.rglob(".*") if path.name.endswith((".partial", ".lock"))]


def test_a_second_run_in_one_folder_ends_with_a_clear_message(cook: Callable[..., Outcome], kitchen: Path) -> None:
    (kitchen / "run").mkdir()
    with exclusive(kitchen / "run" / ".lock"), pytest.raises(ResourceError, match=r"run is in use: process \d+ is"):
        cook()
    assert list((kitchen / "run").iterdir()) == []


def test_a_stage_that_another_run_is_making_is_waited_for(
    cook: Callable[..., Outcome], kitchen: Path, shared_store: Store, tmp_path: Path
) -> None:
    """The second of two runs takes the teacher that the first one has made meanwhile."""
    first = cook(until="teacher")
    (step,) = first.plan.steps
    made = shared_store.folder("teacher", step.fingerprint)
    store = Store(tmp_path / "store")
    lock = store.root / "locks" / made.name
    waits, notes = threading.Event(), list[str]()

    def listen(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.data["message"])
            waits.set()

    outcomes: list[Outcome] = []
    with exclusive(lock):
        thread = threading.Thread(
            target=lambda: outcomes.append(cook(store=store, output="second", until="teacher", listeners=[listen]))
        )
        thread.start()
        assert waits.wait(HUNG_S)
        shutil.copytree(made, store.folder("teacher", step.fingerprint))
    thread.join(HUNG_S)
    assert outcomes[0].exit_code == ExitCode.DONE
    assert [note for note in notes if "is making this stage already" in note] == notes
    assert not lock.exists()
    assert not (kitchen / "second" / ".lock").exists()


def test_any_write_that_is_refused_ends_in_exit_4_and_the_next_run_is_fine(
    cook: Callable[..., Outcome], kitchen: Path, shared_store: Store, tmp_path: Path
) -> None:
    """Of the hundreds of writes of a run, some; benchmarks/robustness/file_faults.py lets each one fail."""
    assert cook().exit_code == ExitCode.DONE  # what the stages of the runs below hand over
    shim, recipe = build_shim(tmp_path), kitchen / "small.yaml"
    total = count_changes(shim, recipe, shared_store.root)
    assert total > 200
    places = [1, *range(9, total, total // 15), total]
    cases = [
        Case(at, error, lasting=number % 2 == 0)
        for number, (at, error) in enumerate(zip(places, itertools.cycle(ERRORS), strict=False))
    ]
    for case, outcome in zip(cases, run_cases(shim, recipe, shared_store.root, cases), strict=True):
        assert outcome.code == ExitCode.RESOURCE, (case, outcome)
        assert outcome.said.startswith("error: "), (case, outcome)
        assert "Traceback" not in outcome.said, (case, outcome)
        # What a full disk keeps from being removed is removed by the next run.
        assert case.lasting or not outcome.broken, (case, outcome)
        assert outcome.again == ExitCode.DONE, (case, outcome)
        assert outcome.same, (case, outcome)


def test_nothing_special_is_followed_waited_for_or_taken_for_a_file(
    cook: Callable[..., Outcome], kitchen: Path, shared_store: Store
) -> None:
    """One kind in every fourth place; benchmarks/robustness/special_files.py tries all of them, with every command."""
    assert cook().exit_code == ExitCode.DONE  # what the stages of the runs below hand over
    wanted = [("run", kind) for kind in special_files.KINDS]
    tried = 0
    for outcome in special_files.try_cases(kitchen / "small.yaml", shared_store.root, wanted, thin=4 * len(wanted) + 1):
        tried += 1
        assert outcome.holds, outcome
    assert tried > 5


@pytest.mark.parametrize(("harm", "message"), [("change", "changed while it was read"), ("remove", "No such file")])
def test_data_that_changes_under_a_run_ends_it_before_anything_is_made_of_it(
    cook: Callable[..., Outcome], kitchen: Path, tmp_path: Path, harm: str, message: str
) -> None:
    def listen(event: Event) -> None:
        if event.kind == "stage-start":
            path = kitchen / "stripes.npz"
            if harm == "change":
                stripes(path, count=300)
            else:
                path.unlink()

    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match=message):
        cook(store=store, listeners=[listen])
    assert not list(store.root.glob("*/manifest.json"))


def forge(store: Store, stage: str, change: Callable[[Path, dict[str, Any]], object]) -> None:
    """Changes what a finished stage has left, and all hashes with it, also in what was made from it."""
    (folder,) = store.root.glob(f"{stage}-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, manifest["metrics"])
    manifest["files"] = {name: sha256_file(folder / name) for name in manifest["files"]}
    write_json(folder / "manifest.json", sealed(manifest))
    for path in store.root.glob("*/manifest.json"):
        later = json.loads(path.read_text())
        if folder.name in later["made_from"]:
            later["made_from"][folder.name] = manifest["files"]
            write_json(path, sealed(later))


def lose_a_tensor(folder: Path, _metrics: dict[str, Any]) -> None:
    tensors = load_file(folder / "weights.safetensors")
    tensors.pop("fc.weight")
    save_file(tensors, folder / "weights.safetensors")


def set_aside(events: list[Event]) -> list[str]:
    notes = [event.data["message"] for event in events if event.kind == "note"]
    told = [note.split(" in the store ")[0] for note in notes if "is not what this step leaves" in note]
    return sorted(one.removeprefix("the result of ") for one in told)


def test_results_of_the_wrong_form_are_made_again_where_they_are_used(
    cook: Callable[..., Outcome], kitchen: Path, own_store: Store
) -> None:
    forge(own_store, "quantize", lambda _, metrics: metrics.update(mode=3))
    forge(own_store, "export", lambda _, metrics: metrics["flatbuffers"].clear())
    forge(own_store, "verify", lambda _, metrics: metrics.update(analysis={"layers": 3}))
    forge(own_store, "benchmark", lambda _, metrics: metrics.update(latency="fast"))
    events: list[Event] = []
    outcome = cook(output="again", store=own_store, listeners=[events.append])
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    assert sha256_file(kitchen / "again" / "model.tflite") == sha256_file(kitchen / "shared" / "model.tflite")
    assert set_aside(events) == ["benchmark", "export", "quantize", "verify"]
    made = [step.stage for step in outcome.plan.steps if step.result is None]
    assert made == ["quantize", "export", "verify", "benchmark"]
    assert cook(output="then", store=own_store).plan.cached


def test_models_of_the_wrong_form_are_made_again_where_they_are_used(
    cook: Callable[..., Outcome], kitchen: Path, own_store: Store
) -> None:
    forge(own_store, "distill", lose_a_tensor)
    forge(own_store, "prune", lambda folder, _: (folder / "architecture.json").write_text("[]"))
    for pattern in ("flatbuffer-*", "quantize-*"):
        for folder in own_store.root.glob(pattern):
            shutil.rmtree(folder)
    events: list[Event] = []
    outcome = cook(output="again", store=own_store, listeners=[events.append])
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    assert sha256_file(kitchen / "again" / "model.tflite") == sha256_file(kitchen / "shared" / "model.tflite")
    assert set_aside(events) == ["distill", "prune"]
    assert cook(output="then", store=own_store).plan.cached


def test_a_flatbuffer_that_is_none_is_converted_again(
    cook: Callable[..., Outcome], kitchen: Path, own_store: Store
) -> None:
    for folder in own_store.root.glob("flatbuffer-*"):
        (folder / "float.tflite").write_bytes(b"none")
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"] = {"float.tflite": sha256_file(folder / "float.tflite")}
        write_json(folder / "manifest.json", sealed(manifest))
    events: list[Event] = []
    outcome = cook(output="again", store=own_store, listeners=[events.append])
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    assert sha256_file(kitchen / "again" / "model.tflite") == sha256_file(kitchen / "shared" / "model.tflite")
    assert set(set_aside(events)) == {"flatbuffer"}
    assert cook(output="then", store=own_store).plan.cached
