"""Which layer loses what, on a run's own data: for the report, and for `edgecompress analyze`.

Validation samples judge the layers, or the agreement with the float model on the calibration set where there are none;
never the test split, or else what is done about a layer would be fitted to it.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.data.splits import calibration_inputs, derived_seed, strata, subset
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.proof.analysis import LayerAnalysis, adding, analyse, rank, sensitivity, with_gains
from edgecompress.quantization.proof.effort import pass_cost
from edgecompress.quantization.twin.twin import Twin
from edgecompress.stages.base import Workbench
from edgecompress.stages.quantizing.judge import Judge, judge_by_answers, judge_of
from edgecompress.stages.verifying.gate import compared_samples

BATCH = 32
#: Samples for the report, and for the command where it is not told another number; large networks get fewer.
REPORT_SAMPLES = 256
COMMAND_SAMPLES = 512
FEWEST_SAMPLES = 16
#: What it may cost in a run, as a share of the twin's passes over all that it is compared on, and in values computed:
#: some 30 seconds of one core (10 ns each were measured). The command may take longer.
REPORT_SHARE = 0.5
REPORT_EFFORT = 3e9
COMMAND_EFFORT = 3 * REPORT_EFFORT
#: Looking at every layer's errors takes as long as this many passes.
WALK_PASSES = 8
FEWEST_LAYERS = 8
#: Figures that differ by the share of this many samples tell nothing.
NOISE_SAMPLES = 2


def analyse_run(
    bench: Workbench, twin: Twin, samples: int = REPORT_SAMPLES, effort: float | None = None
) -> dict[str, Any]:
    """Returns the analysis of a run's twin, layers ranked, as report.json has it (see docs/report.md).

    Args:
        bench: The run.
        twin: As the quantize stage left it; it comes back on the CPU.
        samples: How many at most.
        effort: What it may cost, in values computed; samples are saved first, then the layers that add the least error
            are not tried. Infinity: all samples, all layers. None: as the recipe says.
    """
    nodes = adding(twin)
    cost = pass_cost(twin)
    if effort is None:
        share = min(REPORT_SHARE * compared_samples(bench) * cost, REPORT_EFFORT)
        effort = share if bench.recipe.report.analysis == "fast" else math.inf
    count = int(max(min(samples, effort / (cost * (WALK_PASSES + len(nodes) / 2))), min(samples, FEWEST_SAMPLES)))
    twin = twin.to(bench.device).eval()
    try:
        with torch.no_grad(), twin.settled():
            split, batches, judge = _samples(bench, twin, count)
            used = sum(len(batch) for batch in batches)
            reached = judge.measure(_outputs(twin, batches))
            layers = analyse(twin, batches)
            most = max(effort / (cost * used) - WALK_PASSES, FEWEST_LAYERS / 2) * 2
            tried = worst(layers, nodes, most)
            gains = sensitivity(
                twin, batches, judge.score, tried, lambda done, total: bench.ctx.progress(done, total, "layer passes")
            )
    finally:
        twin.to("cpu")
    noise_points = 100.0 * NOISE_SAMPLES / used
    return {
        "split": split,
        "samples": used,
        "figure": judge.figure.key,
        "score": reached,
        "float_score": judge.reference,
        "noise_points": noise_points,
        "tried": len(tried),
        "layers": [asdict(layer) for layer in rank(with_gains(layers, gains), noise_points)],
    }


def worst(layers: list[LayerAnalysis], nodes: list[Node], most: float) -> list[Node]:
    """Returns up to `most` of the operators, in their order: those that add the most error to what they are given."""
    if len(nodes) <= most:
        return nodes
    added = {layer.index: layer.local_snr_db for layer in layers}
    chosen = sorted(nodes, key=lambda node: (added.get(node.index, np.inf), node.index))[: int(most)]
    return sorted(chosen, key=lambda node: node.index)


def _samples(bench: Workbench, twin: Twin, count: int) -> tuple[str, list[torch.Tensor], Judge]:
    """Returns what the samples are of, network inputs in batches, and what judges the outputs for them."""
    seed, held = bench.recipe.seed, bench.dataset.validation
    split = held.take(subset(strata(held.labels), count, derived_seed(seed, "analysis")))
    inputs = split.inputs if len(split) else calibration_inputs(bench.dataset, count, seed)
    batches = _batches(bench, inputs)
    with twin.floating():
        floating = _outputs(twin, batches)
    if len(split):
        return "validation", batches, judge_of(bench.task, split, floating)
    return "calibration", batches, judge_by_answers(bench.task, floating)


def _batches(bench: Workbench, inputs: NDArray[Any]) -> list[torch.Tensor]:
    return [bench.task.inputs(inputs[k : k + BATCH]).to(bench.device) for k in range(0, len(inputs), BATCH)]


def _outputs(twin: Twin, batches: list[torch.Tensor]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = torch.cat([twin(batch) for batch in batches]).float().cpu().numpy()
    return found
