"""What distillation, pruning and quantization did, as plain text cells; Markdown and HTML show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgecompress.figures import figure_text, judged
from edgecompress.report.numbers import kib, milliseconds, number, percent, plain, points, significant
from edgecompress.report.words.tables import Report

Fact = tuple[str, str]
#: Norms and other layers that are named; of more only the number is told.
LISTED = 4
#: Ends of the keys that other tasks have their own main figure for.
VALIDATION_ACCURACY = "validation_accuracy"


def _share(value: float) -> str:
    return percent(100 * value)


def _rungs(rungs: Sequence[dict[str, Any]], unit: str = "points") -> str:
    """Returns the climb in one line."""
    return "; ".join(f"{rung['name']} ({rung['detail']}): {rung['drop_points']:.2f} {unit}" for rung in rungs)


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values)


def few_named(layers: Sequence[str]) -> str:
    """Returns which layers they are, or how many, where they are not few."""
    return f"{len(layers):,}" if len(layers) > LISTED else _listed(layers)


def _alike(parting: Sequence[str]) -> str:
    """Returns which operators give the same integers on every runtime."""
    return "all operators" if not parting else f"all operators but {few_named(parting)}"


def _clusters(clusters: dict[str, Any]) -> str:
    """Returns how many values weights have, and what the file would pack to without that."""
    gzip, zstd = (kib(clusters[f"unclustered_{kind}_bytes"]) for kind in ("gzip", "zstd"))
    return (
        f"at most {clusters['largest']} values in a layer ({clusters['asked']} asked); unclustered, the file would "
        f"come to {gzip} with gzip, {zstd} with zstd"
    )


def _target(target: dict[str, Any]) -> str:
    """Returns what was asked of pruning and what came out, in the units it was asked in."""
    unit = {"size": "bytes", "latency": "ms", "params": "parameters", "macs": "MACs"}[target["kind"]]
    asked, reached, before = (significant(target[key]) for key in ("asked", "reached", "before"))
    return f"{asked} {unit}; reached {reached}, {before} before"


def _latency(latency: dict[str, Any]) -> str:
    """Returns the latencies of pruned and unpruned model, measured while pruning."""
    after, before = milliseconds(latency["after_ms"]), milliseconds(latency["before_ms"])
    return f"{after}, {before} before ({percent(100 * latency['ratio'])}), on {latency['runtime']}"


#: Block of the report -> its title and what is shown of it: key, how it reads, how its value is written.
MAKING: dict[str, tuple[str, tuple[tuple[str, str, Callable[[Any], str]], ...]]] = {
    "distillation": (
        "Distillation",
        (
            ("stages", "Stages that learn from the teacher", _listed),
            ("temperature", "Temperature", plain),
            ("alpha", "Weight of the soft targets (labels weigh the rest)", plain),
            ("views", "Augmented views with stored soft targets", number),
            ("teacher_outputs", "The Keras teacher answers with", str),
        ),
    ),
    "pruning": (
        "Pruning",
        (
            ("method", "Method", str),
            ("importance", "Channels ranked by", str),
            ("of", "Counted in", str),
            ("asked", "Share asked to go", _share),
            ("target", "Target", _target),
            ("latency", "Latency beside the unpruned model", _latency),
            ("removed_macs", "MACs removed", _share),
            ("removed_params", "Parameters removed", _share),
            ("rounding_points", "Changed by rounding the widths", points),
            ("masked_share", "Weights masked", _share),
            ("base_validation_accuracy", "Validation accuracy before", percent),
            ("validation_accuracy", "Validation accuracy after", percent),
        ),
    ),
    "quantization": (
        "Quantization",
        (
            ("mode", "Mode", str),
            ("weights", "Weights", str),
            ("activations", "Activations", str),
            ("calibration_samples", "Calibration samples", number),
            ("float_validation_accuracy", "Validation accuracy in float32", percent),
            ("ptq_validation_accuracy", "Validation accuracy, calibrated only", percent),
            ("clustered_validation_accuracy", "Validation accuracy, clustered but not trained", percent),
            ("clusters", "Clustered weights", _clusters),
            ("rungs", "Repairs, and what was still lost", _rungs),
            ("parting", "The same integers on every runtime", _alike),
            ("float_norms", "Norms, and sums they read, in float32", few_named),
            ("float_cells", "Gates and states in float32", few_named),
            ("float_softmax", "Softmax in float32", few_named),
            ("float_divisions", "Divisions in float32", few_named),
            ("wide_layers", "Layers kept wider", ", ".join),
            ("wide_macs_share", "Their share of the multiplications", _share),
            ("validation_accuracy", "Validation accuracy of the result", percent),
        ),
    ),
}


def making(report: Report) -> list[tuple[str, list[Fact]]]:
    """Returns what distillation, pruning and quantization did: title and rows of each that took place."""
    found = []
    for key, (title, shown) in MAKING.items():
        block = report[key]
        if block is not None:
            rows = [_made_fact(report, block, *entry) for entry in shown]
            found.append((title, [row for row in rows if row is not None]))
    return found


def _made_fact(report: Report, block: dict[str, Any], name: str, text: str, form: Callable[[Any], str]) -> Fact | None:
    """Returns one row of what was done, None where there is nothing to tell."""
    if name.endswith(VALIDATION_ACCURACY):
        known = judged(report["task"], block, name.removesuffix("accuracy"))
        if known is None:
            return None
        figure, value = known
        return text.replace("accuracy", figure.label), figure_text(figure, value)
    if block.get(name) is None:
        return None
    if name == "rungs":
        known = judged(report["task"], block, "validation_")
        return text, _rungs(block[name], "points" if known is None else known[0].loss_unit)
    return text, form(block[name])
