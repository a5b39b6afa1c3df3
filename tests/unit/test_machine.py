"""How many threads compute, how they wait, and what is told where the converter, or a runtime, is not to be had."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from edgecompress import machine
from edgecompress.errors import ResourceError
from edgecompress.pipeline import diagnosis
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.before.preflight import preflight
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.runtime.runtimes import RUNTIMES


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that count as not installed."""
    names: set[str] = set()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in names else real(name, *more))
    return names


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch, absent: set[str]) -> None:
    """A Raspberry Pi."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    absent |= {"litert_torch", "litert_converter", "tflite_micro"}


def test_nothing_is_missing_where_all_is_installed() -> None:
    assert machine.why_no_conversion() == ""


@pytest.mark.parametrize("module", ["litert_torch", "litert_converter"])
def test_where_it_could_be_installed_that_is_the_way_out(
    monkeypatch: pytest.MonkeyPatch, absent: set[str], module: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    absent.add(module)
    assert machine.why_no_conversion().endswith("is not installed: pip install -c constraints.txt litert-torch")


@pytest.mark.usefixtures("arm")
def test_where_it_is_not_built_the_sentence_says_what_works() -> None:
    told = machine.why_no_conversion()
    assert told.startswith("no flatbuffer can be made on Linux aarch64: litert-converter, which litert-torch needs,")
    assert "run --until distill or prune" in told
    assert "pip install" not in told


@pytest.mark.usefixtures("arm")
def test_it_is_told_before_anything_is_trained_and_where_it_is_needed(tmp_path: Path) -> None:
    recipe = Recipe(version=1, student={"model": "resnet8"}, quantize={"mode": "ptq"})
    bench: Any = SimpleNamespace(recipe=recipe, dataset=SimpleNamespace(name="made", train=[1], test=[1]))
    for stages in ({"export"}, {"quantize", "export", "verify", "benchmark"}):
        with pytest.raises(ResourceError, match="no flatbuffer can be made on Linux aarch64"):
            preflight(bench, stages)
    preflight(bench, {"verify", "benchmark"})
    with pytest.raises(ResourceError, match="no flatbuffer can be made on Linux aarch64"):
        convert(nn.Linear(2, 2), (2,), tmp_path / "none.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("arm")
def test_a_runtime_that_is_not_built_is_not_offered_for_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ResourceError, match=r"tflite-micro is not installed\. It is not built for Linux aarch64: leave"
    ):
        RUNTIMES["tflite-micro"].require()
    monkeypatch.setattr(diagnosis, "_version", lambda *names: None if "tflite-micro" in names else "1.0")
    monkeypatch.setattr(diagnosis, "_child", lambda *_args: "")
    monkeypatch.setattr(diagnosis.private_env, "child_environment", lambda: ("python3.11", ["/private"]))
    found = diagnosis.probe_runtimes()
    assert found["tflite-micro"]["reason"] == "not built for Linux aarch64"
    assert diagnosis.diagnose()["conversion"] == machine.why_no_conversion() != ""


@pytest.fixture
def five_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on five cores of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 5, 7, 8, 9}, raising=False)
    monkeypatch.setattr(machine, "cpu_share", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("five_cores")
@pytest.mark.parametrize(
    ("share", "asked", "threads"),
    [
        (None, None, 5), (None, "1", 1), (None, "4,2", 4), (None, "16", 5), (None, "0", 1), (None, "many", 5),
        (3.0, None, 3), (2.5, None, 2), (0.5, None, 1), (16.0, None, 5), (3.0, "2", 2), (3.0, " 4 ", 3),
    ],
)  # fmt: skip
def test_no_more_threads_than_the_process_may_use(
    share: float | None, asked: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_share", lambda: share)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert machine.usable_threads() == threads


@pytest.mark.usefixtures("five_cores")
def test_cores_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert machine.usable_threads() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.usable_threads() == 1


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "\n"}, None),
        ({"cpu.max": "100000 0\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
    ],
)
def test_the_share_of_a_container(files: dict[str, str], share: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.cpu_share(tmp_path) == share


@pytest.mark.parametrize("said", [None, "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"])
def test_threads_wait_as_the_environment_says_else_asleep(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {} if said is None else {said: "x"}
    monkeypatch.setattr(os, "environ", environment)
    machine.wait_patiently()
    assert environment == (machine.SHORT_WAITS if said is None else {said: "x"})


def test_every_way_in_sets_it_before_torch_is_there() -> None:
    ways = ("import edgecompress; edgecompress.load_recipe", "from edgecompress_cli.main import main; main()")
    for way in ways:
        shown = "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
        program = f"import os, sys; sys.argv[1:] = ['--version']; {way}; {shown}"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split()[-2:] == [machine.SHORT_WAITS["GOMP_SPINCOUNT"], "False"]
