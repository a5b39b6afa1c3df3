"""The verdict on a run: good, doubtful or failed, with its reasons; made from the report's own figures.

A run can keep every limit, agree with its twin to the bit, and be worth nothing: a network that has learnt nothing, a
teacher with its classes in another order, an INT8 file that answers always the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgecompress.figures import figure_text, named
from edgecompress.report.intervals import SIGNIFICANT
from edgecompress.wording import counted

GOOD, DOUBTFUL, FAILED = "good", "doubtful", "failed"
#: Codes of what makes a result doubtful, in the order in which they are told.
DOUBTS = ("chance", "permuted", "untrained", "collapse", "batch", "scale")
#: A network that starts from random weights learns little in fewer optimizer steps.
FEWEST_STEPS = 200
#: What quantization may cost where no budget says so: points, or percent of an error or a perplexity.
MOST_LOST = {"points": 2.0, "%": 10.0}
#: Least cosine of the result's outputs to the float model's, each output's mean subtracted.
LEAST_COSINE = 0.95
#: Answers that change by more of what the outputs span, alone instead of among others, depend on the batch.
MOST_BATCH_SHARE = 1e-3
#: Lines of a budget that say what compression may cost.
SPOKEN_OF = frozenset(
    {"accuracy_drop_points", "accuracy", "agreement", "drop_percent", "auc", "mae", "rmse", "r2", "perplexity",
     "bits_per_byte"}
)  # fmt: skip
NAMES = {"teacher": "the teacher", "student": "the student", "pruned": "the pruned model", "quantized": "the result"}
#: Stage -> row of the report that its model has.
ROWS = {"teacher": "teacher", "distill": "student"}
#: Classes of another order that are listed.
MOST_CLASSES = 5
Reason = dict[str, str]


def assess(report: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {status, reasons: [{code, text}]} for a report's document; what it does not hold speaks against nothing.

    A failed verification (`verification`) and missed limits (`budget`) make it failed, all other reasons doubtful.
    """
    verification, budget = report.get("verification") or {}, report.get("budget") or {}
    failures = []
    if not verification.get("passed", True):
        told = verification.get("reasons") or ("the flatbuffer failed its verification",)
        failures += [{"code": "verification", "text": str(text)} for text in told]
    lines = budget.get("lines") or ()
    failures += [{"code": "budget", "text": str(line["text"])} for line in lines if not line["passed"]]
    failed = bool(failures) or not budget.get("passed", True)
    doubts = doubts_of(report.get("evidence") or {}, limits=[line["name"] for line in lines])
    status = FAILED if failed else DOUBTFUL if doubts else GOOD
    return {"status": status, "reasons": [*failures, *doubts]}


def is_verdict(found: Any) -> bool:
    """Returns whether a value is what `assess` gives."""
    if not isinstance(found, Mapping) or found.get("status") not in (GOOD, DOUBTFUL, FAILED):
        return False
    reasons = found.get("reasons")
    return isinstance(reasons, list) and all(
        isinstance(reason, Mapping) and all(isinstance(reason.get(key), str) for key in ("code", "text"))
        for reason in reasons
    )


def doubts_of(evidence: Mapping[str, Any], *, limits: Iterable[str] = ()) -> list[Reason]:
    """Returns what makes a result doubtful.

    Args:
        evidence: As docs/report.md describes the report's key of that name.
        limits: The budget's keys: where it says what may be lost, no loss is a collapse.
    """
    found = [
        *by_chance(evidence.get("models") or (), "test"),
        *(permuted(one["key"], one) for one in evidence.get("permuted") or ()),
        *untrained(evidence.get("trainings") or ()),
        *([] if SPOKEN_OF & set(limits) else _collapse(evidence)),
        *_batch(evidence.get("batch") or ()),
        *(_reason("scale", scale_text(one)) for one in evidence.get("scale") or ()),
    ]
    return sorted(found, key=lambda reason: DOUBTS.index(reason["code"]))


def stage_doubts(stage: str, metrics: Mapping[str, Any]) -> list[Reason]:
    """Returns what speaks against a model as soon as its stage is finished, by the stage's figures on validation."""
    row = ROWS.get(stage)
    if row is None:
        return []
    standing, order = metrics.get("validation_standing"), metrics.get("reordered")
    found = by_chance([{"key": row, **standing}], "validation") if standing else []
    found += [permuted(row, order)] if order else []
    return found + untrained([training_of(stage, metrics)])


def training_of(stage: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how a stage's model came by its weights: stage, steps, from_scratch."""
    return {
        "stage": stage,
        "steps": metrics.get("optimizer_steps", 0),
        "from_scratch": bool(metrics.get("from_scratch", False)),
    }


def by_chance(models: Sequence[Mapping[str, Any]], split: str) -> list[Reason]:
    """Returns one reason for all models that cannot be told from an answer without any look at the input."""
    blind = [one for one in models if _is_blind(one)]
    if not blind:
        return []
    first, figure = blind[0], named(blind[0]["figure"])
    shown = []
    for one in blind:
        ends = f" ({interval(one)})" if one["low"] is not None else ""
        shown.append(f"{NAMES.get(one['key'], one['key'])} has {figure_text(figure, one['value'])}{ends}")
    samples = counted(first["samples"], f"{split} sample")
    return [
        _reason(
            "chance",
            f"on {samples} {listed(shown)}, which cannot be told from {first['against']} "
            f"({figure_text(figure, first['baseline'])}). Check labels, inputs, weights and training, or test on more "
            "samples.",
        )
    ]


def _is_blind(one: Mapping[str, Any]) -> bool:
    if one["low"] is None or one["high"] is None:
        return True
    larger = named(one["figure"]).larger_is_better
    return bool(one["low"] <= one["baseline"] if larger else one["high"] >= one["baseline"])


def interval(one: Mapping[str, Any]) -> str:
    """Returns the 95 % interval of a model's figure in words: `94.3 to 100 %`."""
    figure = named(one["figure"])
    if figure.unit == "%":
        return interval_text(one["low"], one["high"])
    return f"{figure_text(figure, one['low'])} to {figure_text(figure, one['high'])}"


def interval_text(low: float, high: float) -> str:
    """Returns an interval of percentages: `94.3 to 100 %`, with as many digits as tell its ends apart."""
    digits = 1 if high - low >= 0.1 else 2  # noqa: PLR2004 - what one digit can tell
    shown = [f"{end:.{digits}f}" for end in (low, high)]
    whole = 100.0
    return f"{'0' if low == 0 else shown[0]} to {'100' if high == whole else shown[1]} %"


def permuted(key: str, order: Mapping[str, Any]) -> Reason:
    """Returns the reason for a model whose answers fit the labels far better in another order of the classes."""
    moved = [f"`{answer}` for `{name}`" for name, answer in order["moved"][:MOST_CLASSES]]
    more = len(order["moved"]) - len(moved)
    shown = listed([*moved, f"{more} more"] if more else moved)
    return _reason(
        "permuted",
        f"{NAMES.get(key, key)} answers {order['accuracy']:.2f} % right, but {order['reordered']:.2f} % if its classes "
        f"had another order: it answers {shown}. Compare the order of classes its weights were trained with to the "
        "data's.",
    )


def untrained(trainings: Sequence[Mapping[str, Any]]) -> list[Reason]:
    """Returns a reason for each network that had too few steps to learn from random weights."""
    found = []
    for one in trainings:
        name = NAMES.get(ROWS.get(one["stage"], ""), one["stage"])
        if not one["from_scratch"] or one["steps"] >= FEWEST_STEPS:
            continue
        text = (
            f"{name} was trained from random weights in {counted(one['steps'], 'optimizer step')}: fewer than "
            f"{FEWEST_STEPS} teach a network little. Raise its train.epochs, or lower train.batch_size."
            if one["steps"]
            else f"{name} has random weights: it was neither trained nor loaded."
        )
        found.append(_reason("untrained", text))
    return found


def _collapse(evidence: Mapping[str, Any]) -> list[Reason]:
    """Returns whether the flatbuffer does what the float model does, which was made last."""
    found, paired, models = [], evidence.get("paired") or (), evidence.get("models") or ()
    cosine = evidence.get("cosine")
    if paired and models:
        last, figure = paired[-1], named(models[-1]["figure"])
        sure = last["p"] is not None and last["p"] < SIGNIFICANT
        if sure and last["loss"] > MOST_LOST[figure.loss_unit]:
            found.append(
                f"it loses {last['loss']:.2f} {'points' if figure.unit == '%' else '%'} of {figure.label} against the "
                f"float model it was made from ({paired_text(last)})"
            )
    if cosine is not None and cosine < LEAST_COSINE:
        same = "; it answers always the same" if cosine == 0 else ""
        found.append(
            f"its outputs, each output's mean over the test split subtracted, have a cosine of {cosine:.3f} to the "
            f"float model's, and {LEAST_COSINE:g} is the least{same}"
        )
    if not found:
        return []
    what = f"the flatbuffer does not do what the float model does: {' and '.join(found)}. "
    advice = (
        "`edgecompress analyze` shows which layer loses what; a budget on accuracy or agreement says what may be lost."
    )
    return [_reason("collapse", what + advice)]


def paired_text(one: Mapping[str, Any]) -> str:
    """Returns a comparison on the same samples in words."""
    if one.get("gained") is None:
        return _p_text(one.get("p"))
    return (
        f"{counted(one['gained'], 'sample')} that only the result has right, {one['lost']:,} that it alone has wrong, "
        f"McNemar's {_p_text(one.get('p'))}"
    )


def paired_short(one: Mapping[str, Any]) -> str:
    """Returns the same in short: `12 won, 47 lost, p < 0.001`."""
    told = [] if one.get("gained") is None else [f"{one['gained']:,} won", f"{one['lost']:,} lost"]
    return ", ".join([*told, _p_text(one.get("p"))])


def _p_text(p: float | None) -> str:
    least = 0.001
    return "p is not known" if p is None else f"p < {least:g}" if p < least else f"p = {p:.2g}"


def _batch(batch: Sequence[Mapping[str, Any]]) -> list[Reason]:
    depends = [
        one
        for one in batch
        if one["samples"] > 1
        and (one["difference"] is None or one["difference"] > MOST_BATCH_SHARE >= one.get("unsteady", 0.0))
    ]
    if not depends:
        return []
    names = listed([NAMES.get(one["key"], one["key"]) for one in depends])
    first = depends[0]
    change = (
        "refuses a sample that comes alone"
        if first["difference"] is None
        else f"changes an output by up to {100 * first['difference']:.2g} % of what all outputs span"
    )
    return [
        _reason(
            "batch",
            f"the answers of {names} depend on what else is in the batch: running a sample alone instead of with "
            f"{first['samples'] - 1} others {change}. A device runs one sample at a time. Norms over the batch "
            "need averages of their own (track_running_stats).",
        )
    ]


def scale_text(one: Mapping[str, Any]) -> str:
    """Returns in words how test and train differ in scale."""
    where = "" if one["channel"] is None else f" of channel {one['channel'] + 1}"
    others = f", and {one['channels'] - 1} more differ" if one["channel"] is not None and one["channels"] > 1 else ""
    figures = f"{one['test']:.4g} in test and {one['train']:.4g} in train"
    advice = "Were both prepared alike?"
    if one["what"] == "mean":
        return f"the mean{where} is {figures}, {one['factor']:.1f} standard deviations apart{others}. {advice}"
    if one["what"] == "spread":
        return f"the standard deviation{where} is {figures}, {one['factor']:.3g} times as large{others}. {advice}"
    return (
        f"the first channel is brighter than the last by {figures}: the colours of one of them seem to come in the "
        "reverse order (RGB, BGR)."
    )


def listed(names: Sequence[str]) -> str:
    """Returns names as people list them: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _reason(code: str, text: str) -> Reason:
    return {"code": code, "text": text[:1].upper() + text[1:]}
