"""The stages, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecompress.stages import benchmark, distill, export, prune, quantize, teacher, verify
from edgecompress.stages.base import Workbench

__all__ = ["STAGES", "Workbench"]

Stage = Callable[[Workbench, Path], dict[str, Any]]

#: Stage name -> what runs it. The order is that of a run.
STAGES: dict[str, Stage] = {
    "teacher": teacher.run,
    "distill": distill.run,
    "prune": prune.run,
    "quantize": quantize.run,
    "export": export.run,
    "verify": verify.run,
    "benchmark": benchmark.run,
}
