"""The machine that something was measured on, what of it may be used, and what can be installed on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

#: For GCC's library, rounds of a loop (300,000 by default; none would cost the quiet machine half its speed in small
#: networks); for LLVM's and Intel's, milliseconds (200 by default).
SHORT_WAITS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


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


def usable_threads() -> int:
    """Returns how many threads may compute at once: one a core, and no more than a container or OMP_NUM_THREADS allow.

    Threads beyond a container's share of the processor would stand still for most of each period, and those that are
    ready would wait for them at the end of every operator.
    """
    share, asked = cpu_share(), os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limits = [cores(), *([max(int(share), 1)] if share else []), *([int(asked)] if asked.isdigit() else [])]
    return max(min(limits), 1)


def cpu_share(place: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Returns how many cores' time the container may take, None where nothing limits it.

    Source: Linux's Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (version 1).
    """
    try:
        quota, period = (place / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            files = (place / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            quota, period = (file.read_text(encoding="ascii").strip() for file in files)
        except (OSError, ValueError):
            return None
    limited = quota.isdigit() and period.isdigit() and int(period) > 0  # `max` or -1: it is not
    return int(quota) / int(period) if limited else None


def wait_patiently() -> None:
    """Lets threads that wait for others sleep soon, unless the environment says how; before torch is imported.

    The OpenMP libraries that torch brings let a thread spin for milliseconds at the end of each operator. Where other
    processes keep the cores busy, the thread that is waited for gets no core meanwhile: on two cores beside two busy
    processes small networks took 1.4 to 18 times as long as with this (four trials), on quiet ones as long.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ |= SHORT_WAITS


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
