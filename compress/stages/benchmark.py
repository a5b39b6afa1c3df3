"""Stage benchmark: latency of every flatbuffer of the run, measured interleaved."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from compress.stages.base import MODEL, Workbench, model_stages
from compress.tflite.latency import measure


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Times teacher, student, pruned and shipped flatbuffer on each runtime of the recipe."""
    del work
    spec = bench.recipe.benchmark
    exported = bench.results["export"]
    paths = {row: exported.path(f"{row}.tflite") for row, _ in model_stages(bench.recipe)}
    paths["quantized"] = exported.path(MODEL)
    latency: dict[str, dict[str, Any]] = {row: {} for row in paths}
    for runtime in spec.runtimes:
        measured = measure(
            paths,
            runtime=runtime,
            threads=spec.threads,
            runs=spec.runs,
            on_progress=lambda done, total: bench.ctx.progress(done, total, "runs"),
        )
        for row, figures in measured.items():
            latency[row][runtime] = asdict(figures)
    return {"latency": latency, "threads": spec.threads, "runs": spec.runs}
