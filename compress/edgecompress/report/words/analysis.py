"""What the layer analysis says, as a table and in words; terminal, Markdown and HTML show the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgecompress.figures import ACCURACY, AGREEMENT, Figure, change_text, figure_text, named
from edgecompress.report.numbers import MISSING, compact, number, percent, significant
from edgecompress.report.words.tables import Table
from edgecompress.wording import counted, verb

#: Layers shown in the report beside those in the list of all.
SHOWN_LAYERS = 10
#: A layer stands out where more than half of the error at the output goes with it (3 dB).
OUTSTANDING_DB = 3.0
#: Half of what is there is error.
LOST_DB = 3.0
#: Figures out of the ordinary: the smallest channel keeps 4 of 256 steps, one value of 200 is clipped, two bits are
#: not used.
LARGE_WEIGHT_RATIO = 64.0
LARGE_SATURATION = 0.005
SMALL_RANGE_USE = 0.25
#: Operators that hardly occur but in layer norms.
IN_NORMS = frozenset({"RSQRT", "SQUARED_DIFFERENCE"})
#: Operators that can be INT8 but not INT16 (`edgecompress.quantization.structure.support` asks the quantizer).
WITHOUT_INT16 = frozenset(
    {
        "ABS", "DEPTH_TO_SPACE", "ELU", "EXP", "GREATER", "GREATER_EQUAL", "HARD_SWISH", "LEAKY_RELU", "LESS",
        "LESS_EQUAL", "LOG", "LOG_SOFTMAX", "MINIMUM", "REDUCE_MAX", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1",
        "REVERSE_V2", "SPACE_TO_DEPTH", "SQUARED_DIFFERENCE", "TILE", "TOPK_V2",
    }
)  # fmt: skip
#: Their range is the kernel's: what is clipped there (the 1 of a probability) is clipped by a step.
FIXED_RANGE = ("LOGISTIC", "LOG_SOFTMAX", "SOFTMAX", "TANH")
#: Characters between two columns of a table in the terminal.
GAP = 2
#: Differences of accuracies are as large as the noise when they are no further above it: they are rounded.
POINTS_EPSILON = 1e-6
#: Ratios above this mean that nothing is lost.
EXACT_DB = 149.0
SHORTEST_NAME, LONG_NAME = 16, 32

Entry = dict[str, Any]


def _or_missing(value: float | None, form: Callable[[float], str]) -> str:
    return MISSING if value is None else form(value)


def _signed(value: float | None) -> str:
    return _or_missing(value, lambda known: f"{known + 0.0:+.2f}")


def _decibels(value: float) -> str:
    return "exact" if value > EXACT_DB else f"{value:.1f}"


def _clipped(share: float | None) -> str:
    if share is None or share == 0:
        return MISSING if share is None else "0"
    return percent(100 * share) if share >= 1e-4 else "<0.01 %"  # noqa: PLR2004 - what two decimals can show


def _cosine(value: float) -> str:
    """Returns a cosine that is 1 only where it is."""
    return f"{min(value, 0.9999) if value < 1 - 1e-9 else value:.4f}"


#: Header, cell, and when the column goes where there is no room: the largest number first, 0 never.
COLUMNS: tuple[tuple[str, Callable[[Entry], str], int], ...] = (
    ("Layer", lambda entry: str(entry["layer"]), 0),
    ("Operator", lambda entry: str(entry["op"]), 0),
    ("Points", lambda entry: _signed(entry["gained_points"]), 0),
    ("dB", lambda entry: _signed(entry["gained_db"]), 0),
    ("SNR", lambda entry: _decibels(entry["snr_db"]), 1),
    ("Own SNR", lambda entry: _decibels(entry["local_snr_db"]), 2),
    ("Cosine", lambda entry: _cosine(entry["cosine"]), 5),
    ("Clipped", lambda entry: _clipped(entry["saturation"]), 3),
    ("Range", lambda entry: _or_missing(entry["range_use"], lambda share: f"{100 * share:.0f} %"), 3),
    ("Weights", lambda entry: _or_missing(entry["weight_ratio"], lambda value: f"{significant(value)}:1"), 4),
    ("MACs", lambda entry: compact(entry["macs"]), 6),
)
LEGEND = (
    "Points and dB: what accuracy and the output's signal-to-noise ratio gain when this layer alone is kept in float. "
    "SNR (dB) and cosine: its output against the float model's; own SNR: the error it adds itself. Clipped: values "
    "outside of its range. Range: steps that hold its values, without the outermost 0.05 %. Weights: largest to "
    "smallest channel."
)


def analysis_table(layers: Sequence[Entry], room: int | None = None) -> Table:
    """Returns the layers as they are ranked.

    Args:
        layers: As report.json has them.
        room: Characters of a line, None without limit. Columns go and names are cut where there is not enough.
    """
    columns = [(header, [cell(entry) for entry in layers], goes) for header, cell, goes in COLUMNS]
    if room is not None:
        names = columns[0][1]
        longest = max(map(len, names), default=0)
        while _taken(columns) + min(longest, LONG_NAME) > room:
            first = max(columns, key=lambda column: column[2])
            if not first[2]:
                break
            columns.remove(first)
        left = max(room - _taken(columns), SHORTEST_NAME)
        columns[0] = (columns[0][0], [_cut(name, left) for name in names], 0)
    headers = tuple(header for header, _, _ in columns)
    rows = tuple(zip(*(cells for _, cells, _ in columns), strict=True))
    return Table(headers, rows, headers[2:])


def _taken(columns: Sequence[tuple[str, list[str], int]]) -> int:
    """Returns what all columns but the names take of a line."""
    return sum(max(map(len, [header, *cells])) + GAP for header, cells, _ in columns[1:])


def _cut(name: str, most: int) -> str:
    """Returns a name without its beginning, which layers have in common, where it is too long."""
    return name if len(name) <= most else f"...{name[len(name) - most + 3 :]}"


def analysis_sentence(analysis: dict[str, Any]) -> str:
    """Returns what was judged by what, in a sentence."""
    figure = _figure(analysis)
    what = "{have} the float model's answer in {after} of the cases"
    if figure == ACCURACY:
        what = "{score} {after} quantized and {before} in float"
    elif figure != AGREEMENT:
        what = "{have} {label} {after} quantized and {before} in float"
    samples = analysis["samples"]
    verbs = {"score": verb(samples, "scores", "score"), "have": verb(samples, "has", "have"), "label": figure.label}
    before, after = (figure_text(figure, analysis[key]) for key in ("float_score", "score"))
    figures = what.format(**verbs, after=after, before=before)
    tried = sum(entry["gained_db"] is not None for entry in analysis["layers"])
    unit = "" if figure.unit == "%" else f" Points are percent of the float model's {figure.label}."
    return (
        f"{counted(samples, analysis['split'] + ' sample')} {figures}; differences of up to "
        f"{analysis['noise_points']:.2f} {figure.loss_unit} tell nothing. {number(tried)} of "
        f"{counted(len(analysis['layers']), 'operator')} {verb(tried, 'was', 'were')} kept in float in turn."
        f"{unit}"
    )


def _figure(analysis: dict[str, Any]) -> Figure:
    """Returns what judged; documents of earlier versions do not say it."""
    default = ACCURACY.key if analysis["split"] == "validation" else AGREEMENT.key
    return named(analysis.get("figure", default))


def conclusion(analysis: dict[str, Any], quantize: dict[str, Any]) -> str:
    """Returns which layer costs most, why, and what to try.

    Args:
        analysis: As report.json has it; layers ranked.
        quantize: The recipe's block.
    """
    tried = [entry for entry in analysis["layers"] if entry["gained_db"] is not None]
    if not tried:
        return "No operator quantizes anything."
    figure = _figure(analysis)
    lost = figure.lost(analysis["score"], analysis["float_score"])
    noise = analysis["noise_points"] + POINTS_EPSILON
    worst = tried[0]
    points = change_text(worst["gained_points"], figure.loss_unit)
    gained = f"no {figure.label}" if points == "equal" else points
    gains = f"{gained} and {_signed(worst['gained_db'])} dB at the output"
    name = f"{worst['layer']} ({worst['op']})"
    causes = _causes(worst, calibrated=quantize["mode"] == "ptq")
    if worst["gained_points"] > noise:
        found = f"{name} costs most: kept in float, it gains {gains}."
    elif worst["gained_db"] >= OUTSTANDING_DB:
        found = f"{name} makes most of the error: kept in float, it gains {gains}."
    else:
        found = f"No layer stands out: keeping {name} in float, which brings most, gains {gains}."
        causes = ["The loss is spread over many layers."] if lost > noise else []
    gone = _lost_signal(analysis["layers"])
    if max(lost, worst["gained_points"]) <= noise and not gone:
        figures = " against ".join(figure_text(figure, analysis[key]) for key in ("score", "float_score"))
        what = "accuracy" if figure in (ACCURACY, AGREEMENT) else figure.label
        lost_none = f"No {what} is lost" if figure.larger_is_better else f"No rise of {what} is seen"
        fine = f"{lost_none} that these samples can tell ({figures}): nothing needs a repair."
        return " ".join([found, *causes, fine])
    unknown = "None of its figures says why: its values need finer steps."
    return " ".join([found, *([*causes, *gone] or [unknown]), _remedy(quantize, worst["op"])])


def _lost_signal(layers: Sequence[Entry]) -> list[str]:
    """Returns from where on more error than signal is left, where that is so at the output."""
    order = sorted(layers, key=lambda entry: int(entry["index"]))
    if order[-1]["snr_db"] >= LOST_DB:
        return []
    first = next(entry for entry in order if entry["snr_db"] < LOST_DB)
    ratios = f"its output's ratio to the error is {first['snr_db']:.1f} dB, and {order[-1]['snr_db']:.1f} dB are left"
    return [f"The signal is lost at {first['layer']} ({first['op']}): {ratios} at the end."]


def _causes(entry: Entry, *, calibrated: bool) -> list[str]:
    """Returns what is out of the ordinary in a layer's figures, in sentences."""
    found = []
    if (entry["weight_ratio"] or 0.0) >= LARGE_WEIGHT_RATIO:
        found.append(
            f"The weights of its channels lie {number(round(entry['weight_ratio']))}:1 apart, so the small channels "
            "have few steps at its output: equalisation evens them out."
        )
    if (entry["saturation"] or 0.0) >= LARGE_SATURATION and entry["op"] not in FIXED_RANGE:
        found.append(f"{percent(100 * entry['saturation'])} of its values are clipped: its range is too narrow.")
        if calibrated:
            found.append("Calibrate on more samples, or on such as the model will see.")
    if entry["range_use"] is not None and entry["range_use"] <= SMALL_RANGE_USE:
        found.append(f"Its values use {100 * entry['range_use']:.0f} % of its steps: outliers have widened its range.")
        if calibrated:
            found.append("A range estimator that leaves them out helps.")
    return found


def _remedy(quantize: dict[str, Any], op: str) -> str:
    """Returns what to change in the recipe, where most is lost in an operator of that name."""
    if quantize["mode"] == "qat":
        return "QAT has trained with this error: more `quantize.train.epochs` or a wider model leave less of it."
    if quantize.get("weights") == "int4":
        return "`quantize.weights: int8` makes the weights' steps 16 times finer."
    if quantize.get("activations") in ("dynamic", "float32"):
        return "`quantize.mode: qat` trains with this error."
    if op in IN_NORMS:
        return "`quantize.norms: float32` takes layer norms out of INT8."
    if quantize["max_drop_points"] is None:
        return (
            "`quantize.max_drop_points` (0.5, say) makes PTQ try better ranges, equalised layers, corrected biases and "
            "learned rounding."
        )
    steps = ["A smaller `quantize.max_drop_points` lets PTQ repair more"]
    if not quantize.get("allow"):
        kind = "float32" if quantize.get("activations") == "int16" or op in WITHOUT_INT16 else "int16"
        steps.append(f"`quantize.allow: [{kind}]` keeps the most sensitive layers wider")
    if quantize["escalate"] is None:
        steps.append("`quantize.escalate: qat` trains where no repair suffices")
    return f"{'; '.join(steps)}."
