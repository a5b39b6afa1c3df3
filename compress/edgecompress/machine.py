"""The machine that something was measured on, and what can be installed on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path


def cpu_name() -> str:
    """Returns the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Returns the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Returns the memory this process may take: the machine's, or its container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


#: Distribution with native code -> what it has wheels for: (sys.platform, processor), as in pyproject.toml's markers.
BUILT_FOR = {
    "litert-torch": (("linux", "x86_64"), ("darwin", "arm64")),
    "tflite-micro": (("linux", "x86_64"),),
}


def is_built(distribution: str) -> bool:
    """Returns whether a distribution has wheels for this platform, as far as we know of any that has not."""
    known = BUILT_FOR.get(distribution)
    return known is None or (sys.platform, platform.machine()) in known


def why_no_conversion() -> str:
    """Returns one sentence on what is missing to make flatbuffers here, and what works without it; "" for nothing."""
    if all(importlib.util.find_spec(module) is not None for module in ("litert_torch", "litert_converter")):
        return ""
    if is_built("litert-torch"):
        return "litert-torch, which makes flatbuffers, is not installed: pip install -c constraints.txt litert-torch"
    return (
        f"no flatbuffer can be made on {platform.system()} {platform.machine()}: litert-converter, which litert-torch "
        "needs, is built for Linux x86_64 and macOS arm64 only; here recipes can be checked, models trained and pruned "
        "(run --until distill or prune), and flatbuffers made elsewhere inspected, measured and verified"
    )
