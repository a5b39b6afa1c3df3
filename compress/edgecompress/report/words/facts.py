"""How the result was made, verified and measured, as plain text cells; Markdown and HTML show the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgecompress.figures import Figure, answer_noun, figure_text, judged, main_figure, main_value
from edgecompress.report.numbers import duration, kib, milliseconds, number, percent, significant
from edgecompress.report.rows import KINDS
from edgecompress.report.words.making import few_named
from edgecompress.report.words.tables import Report, Table, figure_of
from edgecompress.wording import counted, verb

#: With more classes than this a confusion matrix is no table for Markdown any more.
TABLED_CLASSES = 20
STAGE_TITLES = {
    "teacher": "Teacher",
    "distill": "Student",
    "prune": "Pruning, fine-tuning",
    "quantize": "Quantization-aware training",
}
Fact = tuple[str, str]
#: Tasks whose outputs are numbers that stand for themselves.
NUMBERS = frozenset({"regression", "anomaly-detection"})
#: Part of a flatbuffer -> how the table calls it.
BYTE_PARTS = {
    "weights": "weights and other parameters",
    "sparse_indices": "places of the weights that are not zero",
    "scales": "scales",
    "zero_vectors": "zero points, one vector of zeros per length",
    "metadata": "metadata, with labels",
    "constants": "shapes, axes, paddings (overhead)",
    "zero_points": "other zero points (overhead)",
    "names": "names (overhead)",
    "structure": "tables and padding (overhead)",
}


def _share(value: float) -> str:
    return percent(100 * value)


def verification_facts(report: Report) -> list[Fact]:
    """Returns the verdict on the flatbuffer: agreement with its twin and the float model; empty if not verified."""
    found = report["verification"]
    if found is None:
        return []
    rows = [("Verdict", "passed" if found["passed"] else "FAILED"), ("Test samples", number(found["test_samples"]))]
    twin = found["twin"]
    if twin is not None:
        steps = f"{significant(twin['mean_steps'])} steps on average, {significant(twin['max_steps'])} at most"
        figure, answers = figure_of(report), counted(twin["samples"], answer_noun(report["task"]))
        if report["task"] in NUMBERS:
            same = [("Within two steps of the quantized twin", f"{percent(twin['same'])} of the numbers, {answers}")]
        else:
            same = [
                ("Same answer as the quantized twin", f"{percent(twin['same'])} of {answers}"),
                ("The same where the answer is clear by a step", percent(twin["clear_same"])),
            ]
        rows += [
            *same,
            (f"{figure.title} of the twin", figure_text(figure, main_value(twin, figure))),
            ("Outputs differ from the twin's by", f"{steps} (a step is {_step(report)})"),
            ("First layer that differs from the twin", found["first_differing_layer"] or "none"),
        ]
    rows.append(("Same answer as the float model", percent(found["float_agreement"])))
    if report["sparsity"] is not None:
        rows.append(("Zeros", sparsity_sentence(report["sparsity"])))
    if report["streaming"] is not None:
        rows.append(("One step, streamed", streaming_sentence(report["streaming"])))
    return rows


def _step(report: Report) -> str:
    """Returns what outputs are compared in; those of `edgecompress.stages.verifying.gate.check_twin`."""
    floating = (report["quantization"] or {}).get("activations") in ("dynamic", "float32")
    return "1/255 of what its outputs span" if floating else "the output's scale"


def bytes_table(report: Report) -> Table:
    """Returns where the bytes of the shipped flatbuffer go, and what its overhead may be; no rows if not counted."""
    flatbuffer = report["models"][-1]["flatbuffer"]
    parts: dict[str, int] = flatbuffer.get("parts") or {}
    rows = [
        (BYTE_PARTS.get(name, name), number(size), _share(size / flatbuffer["size_bytes"]))
        for name, size in sorted(parts.items(), key=lambda item: -item[1])
        if size
    ]
    return Table(("Bytes of the file", "Bytes", "Share"), tuple(rows), ("Bytes", "Share"))


def overhead_sentence(report: Report) -> str:
    """Returns the overhead of the shipped flatbuffer beside what is allowed, and its metadata; "" if not counted."""
    flatbuffer = report["models"][-1]["flatbuffer"]
    if flatbuffer.get("overhead_bytes") is None:
        return ""
    return (
        f"Overhead: {counted(flatbuffer['overhead_bytes'], 'byte')} beside parameters, scales and metadata; "
        f"{number(flatbuffer['overhead_allowance_bytes'])} are allowed for its operators and tensors. "
        f"Metadata: {counted(flatbuffer['metadata_bytes'], 'byte')}."
    )


def environment_facts(report: Report) -> list[Fact]:
    """Returns the machine and the versions a measurement depends on."""
    environment = report["environment"]
    shown = (("cpu", "Processor"), ("cores", "Cores"), ("platform", "Platform"), ("python", "Python"))
    rows = [(text, str(environment[key])) for key, text in shown if environment.get(key) is not None]
    return rows + [(name, str(version)) for name, version in sorted((environment.get("versions") or {}).items())]


def training_table(report: Report) -> Table:
    """Returns one row per training: its epochs, the loss and the validation figure at both ends."""
    headers = (
        "Training",
        "Epochs",
        "Batches",
        "Optimizer",
        "First loss",
        "Last loss",
        "First validation",
        "Best validation",
        "Last validation",
    )
    rows = []
    for stage, curve in training_curves(report):
        losses = [entry["loss"] for entry in curve if entry.get("loss") is not None]
        figure, known = validation_curve(report["task"], curve)
        ends = [significant(losses[0]), significant(losses[-1])] if losses else ["-", "-"]
        best = max if figure.larger_is_better else min
        ends_and_best = (known[0], best(known), known[-1]) if known else (None, None, None)
        epochs = number(max(entry["epoch"] for entry in curve))
        how = (_batches(curve), _optimizer(curve))
        shown = (figure_text(figure, value) for value in ends_and_best)
        rows.append((STAGE_TITLES.get(stage, stage), epochs, *how, *ends, *shown))
    return Table(headers, tuple(rows), headers[1:])


def _batches(curve: Sequence[dict[str, Any]]) -> str:
    """Returns how many samples a step took."""
    size = curve[-1].get("batch_size")
    return "-" if size is None else f"of {number(size)}"


def _optimizer(curve: Sequence[dict[str, Any]]) -> str:
    """Returns the optimizer, its largest learning rate at the end of an epoch, and how often that had to be halved."""
    last = curve[-1]
    if last.get("optimizer") is None:
        return "-"
    halved = last.get("setbacks") or 0
    rate = significant(max(entry["learning_rate"] for entry in curve))
    return f"{last['optimizer']}, {rate}" + (f", halved {counted(halved, 'time')}" if halved else "")


def validation_curve(task: str, curve: Sequence[dict[str, Any]]) -> tuple[Figure, list[float]]:
    """Returns what a training was judged by on the validation split, and its values, none where there is no split."""
    found = [known for entry in curve if (known := judged(task, entry, "validation_")) is not None]
    return (found[0][0], [value for _, value in found]) if found else (main_figure(task), [])


def training_curves(report: Report) -> list[tuple[str, list[dict[str, Any]]]]:
    """Returns stage and curve of every training, in the order of the stages."""
    order = [entry["stage"] for entry in report["stages"]]
    curves = [(stage, curve) for stage, curve in report["curves"].items() if curve]
    return sorted(curves, key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def stages_table(report: Report) -> Table:
    """Returns what each stage took."""
    rows = tuple(
        (entry["stage"], _status(entry), duration(entry["seconds"]), entry["fingerprint"][:12])
        for entry in report["stages"]
    )  # fmt: skip
    return Table(("Stage", "Status", "Time", "Fingerprint"), rows, ("Time",))


def _status(entry: Mapping[str, Any]) -> str:
    """Returns whether a stage ran; documents of earlier versions do not say which code made what was reused."""
    if entry["status"] != "cached":
        return str(entry["status"])
    return "reused, of other code" if entry.get("kept_code") else "reused"


def files_table(report: Report) -> Table:
    """Returns the SHA-256 of the data and of the files that must not change."""
    rows = [*report["files"].items(), (f"data: {report['data']['source']}", report["data"]["sha256"])]
    return Table(("File", "SHA-256"), tuple(rows))


def census_table(census: dict[str, Any]) -> Table:
    """Returns the flatbuffer's operators by name, the most frequent first."""
    ops = sorted(census["ops"].items(), key=lambda item: (-item[1]["count"], item[0]))
    rows = tuple((name, number(entry["count"]), ", ".join(entry["dtypes"])) for name, entry in ops)
    return Table(("Operator", "Count", "Types"), rows, ("Count",))


def tensors_sentence(census: dict[str, Any]) -> str:
    """Returns how many tensors have which type: `Tensors: 9 int32, 18 int8`."""
    return "Tensors: " + ", ".join(f"{number(count)} {dtype}" for dtype, count in sorted(census["tensors"].items()))


def not_int8_table(report: Report) -> Table:
    """Returns what is not INT8 in a flatbuffer that is meant to be; no rows where that is nothing."""
    meant = report["models"][-1]["flatbuffer"]["dtype"] != "float32" and report["verification"] is not None
    return _faults_table(report["verification"]["census"]["not_int8"] if meant else [])


def allowed_table(report: Report) -> Table:
    """Returns what is not INT8 in a flatbuffer whose recipe allows it; no rows where nothing is meant to be INT8."""
    quantization = report["quantization"] or {}
    if quantization.get("activations") != "int8" or report["verification"] is None:
        return _faults_table([])
    allowed = report["verification"]["census"]["allowed"]
    for why, (key, _) in KINDS.items():
        allowed = _kind_as_one(allowed, why, quantization.get(key) or ())
    return _faults_table(_norms_as_one(allowed, quantization.get("float_norms")))


def _kind_as_one(faults: Sequence[dict[str, Any]], why: str, layers: Sequence[str]) -> list[dict[str, Any]]:
    """Returns what is not INT8 with all tensors that are so for one key in one row, in the place of the first."""
    inside = [fault for fault in faults if fault["why"].startswith(why)]
    rows = [fault for fault in faults if fault not in inside or fault is inside[0]]
    if inside:
        one = {**inside[0], "op": counted(len(inside), "tensor"), "layer": few_named(layers), "why": why}
        rows[rows.index(inside[0])] = one
    return rows


def _norms_as_one(faults: Sequence[dict[str, Any]], norms: Sequence[str] | None) -> list[dict[str, Any]]:
    """Returns what is not INT8 with all tensors of a norm in one row."""
    rows: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    for fault in faults:
        norm = next((one for one in norms or () if fault["layer"] == one or fault["layer"].startswith(f"{one}.")), None)
        if norm is None:
            rows.append(fault)
            continue
        if norm not in counts:
            rows.append({"op": norm, "layer": norm, "dtype": fault["dtype"], "why": "quantize.norms"})
        counts[norm] = counts.get(norm, 0) + 1
    return [{**row, "op": counted(counts[row["op"]], "tensor")} if row["op"] in counts else row for row in rows]


def _faults_table(faults: Sequence[dict[str, Any]]) -> Table:
    rows = tuple((fault["op"], fault["layer"], fault["dtype"], fault["why"]) for fault in faults)
    return Table(("Operator", "Layer", "Type", "Why"), rows)


def runtimes_table(report: Report) -> Table:
    """Returns how the shipped flatbuffer does on each runtime beside LiteRT."""
    headers = (
        "Runtime", "Runs", "LiteRT's answer", "Equal outputs", "Largest difference", "p50", "Arena", "Flash",
    )  # fmt: skip
    rows = []
    for proof in report.get("runtimes") or []:
        latency = report["models"][-1]["latency"].get(proof["runtime"]) or {}
        steps = "-" if proof["max_steps"] is None else counted(round(proof["max_steps"]), "step")
        rows.append(
            (
                proof["runtime"],
                f"yes, {counted(proof['samples'], 'sample')}" if proof["runs"] else f"no: {proof['reason']}",
                percent(proof["same_answer"]), percent(proof["bit_exact"]), steps, milliseconds(latency.get("p50_ms")),
                kib(proof["arena_bytes"]) if proof["arena_bytes"] else "-",
                kib(proof["flash_bytes"]) if proof["flash_bytes"] else "-",
            )
        )  # fmt: skip
    return Table(headers, tuple(rows), headers[2:])


def layers_table(layers: Sequence[dict[str, Any]]) -> Table:
    """Returns each operator beside its twin, in steps of the output's scale."""
    rows = tuple(
        (entry["layer"], entry["op"], f"{entry['mean_steps']:.3f}", f"{entry['max_steps']:.1f}",
         "other weights" if entry["weights_differ"] else "differs" if entry["differs"] else "same")
        for entry in layers
    )  # fmt: skip
    headers = ("Layer", "Operator", "Mean steps", "Max steps", "Against its twin")
    return Table(headers, rows, ("Mean steps", "Max steps"))


def widths_table(pruning: dict[str, Any] | None) -> Table:
    """Returns the width of every layer before and after pruning; no rows where no widths changed."""
    rows = tuple(
        (name, number(before), number(after), f"{100 * (1 - after / before):.0f} %")
        for name, (before, after) in ((pruning or {}).get("widths") or {}).items()
    )
    return Table(("Layer", "Before", "After", "Removed"), rows, ("Before", "After", "Removed"))


def streaming_sentence(streaming: dict[str, Any]) -> str:
    """Returns what the model of one step is and how it compares with the whole sequence, in one sentence."""
    return (
        f"{streaming['file']}, {kib(streaming['size_bytes'])}; repeated over "
        f"{counted(streaming['samples'], 'test sample')} it gives the same answer to the bit on "
        f"{percent(streaming['equal'])} of them."
    )


def sparsity_sentence(sparsity: dict[str, Any]) -> str:
    """Returns how many weights are zero in the shipped file, in one sentence."""
    zeros, masked = sparsity["zeros_in_file"], sparsity["masked_weights"]
    return (
        f"{counted(zeros, 'weight')} {verb(zeros, 'is', 'are')} zero in the file "
        f"({percent(100 * sparsity['share'])} of its weights); {number(masked)} of "
        f"{counted(sparsity['prunable_weights'], 'prunable weight')} {verb(masked, 'was', 'were')} masked."
    )


def confusions(plots: dict[str, Any], most: int = 5) -> list[str]:
    """Returns which classes are taken for which others most often, in sentences."""
    matrix, names = plots.get("confusion_matrix"), plots.get("class_names")
    if not matrix or not names:
        return []
    wrong = [
        (count, row, column)
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    wrong.sort(key=lambda item: (-item[0], item[1:]))
    return [
        f"{names[row]} taken for {names[column]}: {number(count)} of {number(sum(matrix[row]))}"
        for count, row, column in wrong[:most]
    ]


def confusion_table(plots: dict[str, Any]) -> Table:
    """Returns the confusion matrix with the accuracy of each class; no rows where it would be too wide to read."""
    matrix, names = plots.get("confusion_matrix"), plots.get("class_names")
    if not matrix or not names or len(names) > TABLED_CLASSES:
        return Table((), ())
    shares = plots.get("per_class_accuracy") or [None] * len(names)
    headers = ("Label \\ answer", *map(str, names), "Accuracy")
    rows = tuple(
        (str(name), *map(number, counts), percent(share))
        for name, counts, share in zip(names, matrix, shares, strict=True)
    )
    return Table(headers, rows, headers[1:])
