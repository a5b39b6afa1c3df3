"""Stage benchmark: latency of every flatbuffer of the run, measured interleaved, and the result on other runtimes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import ModelError
from edgecompress.recipe.steps import model_stages
from edgecompress.stages.base import MODEL, Workbench, flatbuffer_of, labels_of
from edgecompress.stages.quantizing.twins import LABELS
from edgecompress.stages.verifying.kernels import warn_of_wrong_kernels
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.runtime.child import call
from edgecompress.tflite.runtime.latency import measure
from edgecompress.tflite.runtime.patience import OWN_START_S
from edgecompress.tflite.runtime.proof import REFERENCE, SAMPLES, RuntimeProof, prove
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import quantize_input

#: Timed runs on tflite-micro: its kernels are plain loops, and their time on this machine is only worth an impression.
MICRO_RUNS = 20
#: Share of LiteRT's answers, in percent, under which a runtime is warned of.
SAME_ANSWERS = 99.9
#: Under this share rounding is no explanation: old kernels read only the first scale of a linear layer's weights, say.
ROUNDING_ANSWERS = 50.0


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Times the flatbuffers of the run on each runtime of the recipe, and tries the shipped one there."""
    del work
    spec = bench.recipe.benchmark
    exported = bench.results["export"]
    paths = {row: flatbuffer_of(exported, f"{row}.tflite") for row, _ in model_stages(bench.recipe)}
    paths["quantized"] = flatbuffer_of(exported, MODEL)
    latency: dict[str, dict[str, Any]] = {row: {} for row in paths}
    proofs: list[RuntimeProof] = []
    # Verification has told of LiteRT's kernels: which other runtimes are asked for is no matter of the file.
    others = [runtime for runtime in spec.runtimes if runtime != REFERENCE]
    labels = labels_of(exported, LABELS)
    warn_of_wrong_kernels(bench, read_model(paths["quantized"]), labels, others)
    for runtime in spec.runtimes:
        if runtime != REFERENCE:
            proofs.append(_prove(bench, paths["quantized"], runtime))
            if not proofs[-1].runs:
                continue
        for row, figures in _times(bench, paths, runtime).items():
            latency[row][runtime] = figures
    return {
        "latency": latency,
        "threads": spec.threads,
        "runs": spec.runs,
        "runtimes": [asdict(proof) for proof in proofs],
    }


def _times(bench: Workbench, paths: dict[str, Path], runtime: str) -> dict[str, Any]:
    """Returns the latency of the flatbuffers that are timed on a runtime, by row."""
    spec = bench.recipe.benchmark

    def progress(done: int, total: int) -> None:
        bench.ctx.progress(done, total, f"runs on {runtime}")

    if not RUNTIMES[runtime].isolated:
        options = {"runtime": runtime, "threads": spec.threads, "runs": spec.runs}
        measured = measure(paths, **options, on_progress=progress)  # type: ignore[arg-type]
        return {row: asdict(figures) for row, figures in measured.items()}
    micro = runtime == "tflite-micro"
    timed = {"quantized": paths["quantized"]} if micro else paths
    arguments = {
        "paths": {row: str(path.absolute()) for row, path in timed.items()},
        "runtime": runtime,
        "threads": spec.threads,
        "runs": min(spec.runs, MICRO_RUNS) if micro else spec.runs,
    }
    try:
        found: dict[str, Any] = call("bench", arguments, start_s=OWN_START_S, on_progress=progress, runtime=runtime)
    except ModelError as error:
        bench.ctx.warn(f"No latency on {runtime}: {error}")
        return {}
    return found


def _prove(bench: Workbench, path: Path, runtime: str) -> RuntimeProof:
    """Returns how the shipped flatbuffer does on a runtime; what is worth a warning is warned of."""
    bench.ctx.note(f"trying the flatbuffer on {runtime}")
    choices = bench.dataset.outputs[-1] if bench.task.chooses else None
    proof = prove(path, runtime, _inputs(bench, path), threads=bench.recipe.benchmark.threads, choices=choices)
    if not proof.runs:
        bench.ctx.warn(f"The flatbuffer does not run on {runtime}: {proof.reason}")
    elif proof.same_answer is not None and proof.same_answer < SAME_ANSWERS:
        rounds = "its kernels round otherwise, and this model is sensitive to it."
        wrong = "its kernels compute something else. Do not use this flatbuffer there."
        bench.ctx.warn(
            f"On {runtime} the flatbuffer gives LiteRT's answer on {proof.same_answer:.2f} % of {proof.samples} "
            f"samples: {rounds if proof.same_answer >= ROUNDING_ANSWERS else wrong}"
        )
    return proof


def _inputs(bench: Workbench, path: Path) -> NDArray[Any]:
    """Returns raw samples that are not of the test split, which is read for the report's accuracy only."""
    dataset = bench.dataset
    parts = [split.inputs for split in (dataset.validation, dataset.train) if len(split)]
    if not parts and dataset.calibration is not None:
        parts = [dataset.calibration]
    samples = np.concatenate([part[:SAMPLES] for part in parts])[:SAMPLES]
    session = RUNTIMES[REFERENCE].session(path)
    return quantize_input(bench.task.to_flatbuffer(bench.task.inputs(samples)), session.input)
