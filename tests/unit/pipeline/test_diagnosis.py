"""What is found out about the machine."""

from __future__ import annotations

import importlib.metadata
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgecompress.pipeline import diagnosis
from edgecompress.tflite.runtime import private_env


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, str]]:
    """Answers for the child processes: task -> (exit code, stderr); the others succeed."""
    answers: dict[str, tuple[int, str]] = {}

    real = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "edgecompress.tflite.runtime.probe" not in command:  # the platform module asks `uname`
            return real(command, **options)
        task = command[command.index("edgecompress.tflite.runtime.probe") + 1]
        if answers.get(task) == (0, "hangs"):
            raise subprocess.TimeoutExpired(command, 1)
        code, stderr = answers.get(task, (0, ""))
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(private_env, "child_environment", lambda: ("python3.11", ["/private"]))
    return answers


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of the distributions that count as installed."""
    installed = {name: "1.0" for name, _, _ in diagnosis.LIBRARIES}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


@pytest.mark.slow
def test_real_litert_works_here() -> None:
    found = diagnosis.probe_runtimes()
    assert found["litert"]["works"], found["litert"]["reason"]
    assert found["litert"]["version"]
    assert set(found) == {"litert", "tensorflow", "tflite-runtime", "tflite-micro"}


@pytest.mark.usefixtures("children", "versions")
def test_all_is_well() -> None:
    found = diagnosis.diagnose()
    assert found["ok"] is True
    assert found["missing"] == []
    assert all(row["works"] for row in found["runtimes"].values())


def test_ways_a_runtime_fails(children: dict[str, tuple[int, str]], versions: dict[str, str]) -> None:
    del versions["tflite-micro"]
    children["litert"] = (1, "noise\n\nValueError: no such op\n")
    children["tensorflow"] = (-signal.SIGSEGV, "")
    children["tflite-runtime"] = (1, "ImportError: a library is missing")
    found = diagnosis.diagnose()
    assert found["ok"] is False
    assert {name: row["reason"] for name, row in found["runtimes"].items()} == {
        "litert": "ValueError: no such op",
        "tensorflow": "crashed (SIGSEGV)",
        "tflite-runtime": "ImportError: a library is missing",
        "tflite-micro": "not installed",
    }


def test_tflite_runtime_that_is_not_set_up_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECOMPRESS_RUNTIMES", str(tmp_path))
    found = diagnosis._probe("tflite-runtime", tmp_path / "any.tflite")
    assert found["works"] is False
    assert "edgecompress doctor --install tflite-runtime" in found["reason"]


@pytest.mark.usefixtures("versions")
def test_runtime_that_hangs_or_says_nothing(
    children: dict[str, tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "PROBE_TIMEOUT_S", 120)
    children["litert"] = (0, "hangs")
    children["tensorflow"] = (3, "")
    found = diagnosis.probe_runtimes()
    assert found["litert"]["reason"] == "did not answer within 120 s"
    assert found["tensorflow"]["reason"] == "ended with exit code 3"


@pytest.mark.usefixtures("versions")
def test_without_a_flatbuffer_nothing_can_be_tried(children: dict[str, tuple[int, str]]) -> None:
    children["build"] = (1, "ModuleNotFoundError: No module named 'ai_edge_litert'")
    found = diagnosis.probe_runtimes()
    assert not any(row["works"] for row in found.values())
    assert "No module named 'ai_edge_litert'" in found["tensorflow"]["reason"]


@pytest.mark.usefixtures("children")
def test_missing_library_is_named_and_alternatives_count(versions: dict[str, str]) -> None:
    del versions["torch"]
    del versions["tensorflow-cpu"]
    del versions["timm"]
    versions["tensorflow"] = "2.21.0"
    found = diagnosis.diagnose()
    assert (found["ok"], found["missing"]) == (False, ["torch"])
    by_name = {row["name"]: row["version"] for row in found["libraries"]}
    assert (by_name["tensorflow-cpu"], by_name["timm"]) == ("2.21.0", None)
    assert found["runtimes"]["tensorflow"]["works"]


def test_machine_is_read_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/cpuinfo": "processor : 0\nmodel name\t: AMD EPYC 9R14\nflags\t\t: fpu avx2 avx512_vnni avx512_bf16\n",
        "/proc/meminfo": "MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   6000 kB\n",
        "/sys/fs/cgroup/memory.max": "max\n",
    }
    monkeypatch.setattr(diagnosis, "_read", lambda path: files.get(path, ""))
    found = diagnosis.machine()
    assert found["processor"] == "AMD EPYC 9R14"
    assert found["features"] == ["avx2", "avx512_vnni", "avx512_bf16"]
    assert (found["memory_bytes"], found["memory_available_bytes"]) == (8_192_000, 6_144_000)
    assert found["cores"] >= 1
    files["/sys/fs/cgroup/memory.max"] = "4096000\n"
    assert diagnosis.machine()["memory_bytes"] == 4_096_000
    assert diagnosis.machine()["memory_available_bytes"] == 4_096_000
    files["/proc/cpuinfo"] = "Model : Raspberry Pi 5\nFeatures : fp asimd asimddp\n"
    assert diagnosis.machine()["features"] == ["asimd", "asimddp"]
    files.clear()
    assert (diagnosis.machine()["memory_bytes"], diagnosis.machine()["features"]) == (0, [])


def test_store_is_measured_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    (store / "teacher-1").mkdir(parents=True)
    (store / "teacher-1" / "weights").write_bytes(b"12345")
    monkeypatch.setenv("EDGECOMPRESS_STORE", str(store))
    first = diagnosis._folders()[0]
    assert (first["path"], first["size_bytes"]) == (str(store), 5)
    assert first["free_bytes"] > 0
    monkeypatch.delenv("EDGECOMPRESS_STORE")
    monkeypatch.chdir(tmp_path)
    assert diagnosis._folders()[0] | {"free_bytes": 0} == {
        "name": "store", "path": "runs/.store", "size_bytes": 0, "free_bytes": 0
    }  # fmt: skip


def test_downloaded_fashion_mnist_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "DATA_FOLDERS", (tmp_path / "debian", tmp_path / "raw"))
    assert diagnosis.find_fashion_mnist() is None
    (tmp_path / "raw").mkdir()
    for stem, dimensions in (("train-images", 3), ("train-labels", 1), ("t10k-images", 3)):
        (tmp_path / "raw" / f"{stem}-idx{dimensions}-ubyte").touch()
    assert diagnosis.find_fashion_mnist() is None
    (tmp_path / "raw" / "t10k-labels-idx1-ubyte.gz").touch()
    assert diagnosis.find_fashion_mnist() == str(tmp_path / "raw")


def test_file_that_is_not_there_reads_as_empty() -> None:
    assert diagnosis._read("/proc/no-such-file") == ""
