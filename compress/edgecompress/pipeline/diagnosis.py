"""What this machine has: libraries, runtimes that really run, processor, memory, folders, data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgecompress.errors import ResourceError
from edgecompress.machine import cores, is_built, usable_threads, why_no_conversion
from edgecompress.pipeline.settings import default_store
from edgecompress.store.seals import without_key
from edgecompress.tflite.runtime import private_env
from edgecompress.version import __version__

#: Distributions, in the order they are shown: (name, alternative name, whether a run needs it).
LIBRARIES: tuple[tuple[str, str, bool], ...] = (
    ("torch", "", True),
    ("torchvision", "", True),
    ("litert-torch", "", True),
    ("ai-edge-litert", "", True),
    ("ai-edge-quantizer", "", True),
    ("torch-pruning", "", True),
    ("tensorflow-cpu", "tensorflow", False),
    ("tflite-runtime", "", False),
    ("tflite-micro", "", False),
    ("timm", "", False),
    ("numpy", "", True),
    ("pydantic", "", True),
    ("pyyaml", "", True),
    ("typer", "", True),
    ("rich", "", True),
    ("safetensors", "", True),
    ("scikit-learn", "", True),
    ("matplotlib", "", True),
    ("zstandard", "", True),
)
#: Runtime -> the distributions that bring it. Only `litert` is needed for a run.
RUNTIMES: dict[str, tuple[str, ...]] = {
    "litert": ("ai-edge-litert",),
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "tflite-runtime": ("tflite-runtime",),
    "tflite-micro": ("tflite-micro",),
}
REQUIRED_RUNTIME = "litert"
#: Processor features that make INT8 or bf16 arithmetic fast, as /proc/cpuinfo names them (x86 and Arm).
CPU_FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
#: Where Fashion-MNIST may lie: Debian's package, torchvision's layout, a plain folder.
DATA_FOLDERS = (
    Path("/usr/share/datasets/fashion-mnist"),
    Path("data/FashionMNIST/raw"),
    Path("data/fashion-mnist"),
)
DATA_FILES = ("train-images", "train-labels", "t10k-images", "t10k-labels")
PROBE_TIMEOUT_S = 120


def diagnose() -> dict[str, Any]:
    """Returns all findings as plain JSON values; `ok` says whether a run can work."""
    libraries = [_library(*entry) for entry in LIBRARIES]
    runtimes = probe_runtimes()
    missing = [row["name"] for row in libraries if row["required"] and row["version"] is None]
    return {
        "ok": runtimes[REQUIRED_RUNTIME]["works"] and not missing,
        "edgecompress": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": libraries,
        "missing": missing,
        "conversion": why_no_conversion(),
        "runtimes": runtimes,
        "machine": machine(),
        "folders": _folders(),
        "data": {"fashion-mnist": find_fashion_mnist()},
    }


def probe_runtimes() -> dict[str, dict[str, Any]]:
    """Returns for each runtime whether it computes a tiny INT8 flatbuffer right, and if not why.

    Each one is tried in a child process, because native code may crash, and because libraries that exclude each
    other cannot share one.
    """
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        model = Path(folder, "relu.tflite")
        unbuildable = _child("build", model)
        if unbuildable:
            reason = f"the flatbuffer to try could not be built ({unbuildable})"
            return {
                name: {"works": False, "version": _version(*names), "reason": reason}
                for name, names in RUNTIMES.items()
            }
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(RUNTIMES, pool.map(lambda name: _probe(name, model), RUNTIMES), strict=True))


def machine() -> dict[str, Any]:
    """Returns processor, cores this process may use, and memory in bytes (0 where the system does not tell)."""
    info = _read("/proc/cpuinfo")
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    known = set(flags.group(1).split()) if flags else set()
    memory = {
        key: int(size) * 1024 for key, size in re.findall(r"^(\w+):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    }
    total = memory.get("MemTotal", 0)
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit() and total:
        total = min(total, int(limit))
    return {
        "processor": model.group(1).strip() if model else platform.processor() or platform.machine(),
        "cores": cores(),
        "threads": usable_threads(),
        "features": [feature for feature in CPU_FEATURES if feature in known],
        "memory_bytes": total,
        "memory_available_bytes": min(memory.get("MemAvailable", 0), total),
    }


def find_fashion_mnist() -> str | None:
    """Returns the folder Fashion-MNIST lies in (Debian's, or a download in ./data), or None."""
    for folder in DATA_FOLDERS:
        if all(any(folder.glob(f"{stem}-idx?-ubyte*")) for stem in DATA_FILES):
            return str(folder)
    return None


def _library(name: str, alternative: str, required: bool) -> dict[str, Any]:
    return {"name": name, "version": _version(*filter(None, (name, alternative))), "required": required}


def _version(*names: str) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _probe(name: str, model: Path) -> dict[str, Any]:
    version = _version(*RUNTIMES[name])
    if name == "tflite-runtime":  # it cannot share a process with this environment's NumPy
        try:
            python, search = private_env.child_environment()
        except ResourceError as error:
            return {"works": False, "version": version, "reason": str(error)}
        version = private_env.RELEASE
        reason = _child(name, model, python, search)
    else:
        reason = _child(name, model) if version else _absence(name)
    return {"works": not reason, "version": version, "reason": reason}


def _absence(name: str) -> str:
    return "not installed" if is_built(name) else f"not built for {platform.system()} {platform.machine()}"


def _child(task: str, model: Path, python: str = sys.executable, search: Sequence[str] = ()) -> str:
    """Runs the probe in a child process; returns "" if it went well, else why not."""
    search = search or [entry or str(Path.cwd()) for entry in sys.path]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, with fixed arguments
            [python, "-P", "-m", "edgecompress.tflite.runtime.probe", task, str(model), str(os.getpid())],
            capture_output=True, text=True, errors="replace", timeout=PROBE_TIMEOUT_S, check=False,
            env={**without_key(os.environ), "PYTHONPATH": os.pathsep.join(search)},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"did not answer within {PROBE_TIMEOUT_S} s"
    if done.returncode < 0:
        return f"crashed ({signal.Signals(-done.returncode).name})"
    if done.returncode:
        lines = [text for text in done.stderr.splitlines() if text.strip()]
        return lines[-1].strip() if lines else f"ended with exit code {done.returncode}"
    return ""


def _folders() -> list[dict[str, Any]]:
    """Returns the folders a run fills: what lies in them and how much room their disks have left, in bytes."""
    store = default_store()
    temporary = Path(tempfile.gettempdir())
    filled = sum(file.lstat().st_size for file in store.rglob("*") if file.is_file())
    return [
        {"name": "store", "path": str(store), "size_bytes": filled, "free_bytes": _free_bytes(store)},
        {"name": "temporary", "path": str(temporary), "size_bytes": None, "free_bytes": _free_bytes(temporary)},
    ]


def _free_bytes(path: Path) -> int:
    absolute = path.absolute()
    return shutil.disk_usage(next(parent for parent in (absolute, *absolute.parents) if parent.exists())).free


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux, or hidden in this container
