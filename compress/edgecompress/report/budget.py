"""The budget: limits on the result, judged line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecompress.figures import ACCURACY, AUC, BITS_PER_BYTE, MAE, PERPLEXITY, R2, RMSE, Figure
from edgecompress.recipe.schema import BudgetSpec
from edgecompress.report.numbers import KIB, significant

#: Accuracies are percentages of counts: 98.3 - 97.3 may come out as 1.0000000000000142, which is no miss.
ROUNDING = 1e-9
#: Values are written with six digits behind the point.
SAME = 1e-5


@dataclass(frozen=True)
class BudgetFigures:
    """What the limits are held against; None where it was not measured.

    Attributes:
        figure: What the task is judged by.
        metrics: Of the result on the test split.
        reference_metrics: Of the FP32 teacher, or of the FP32 student where there is no teacher.
        reference: Which one, in words.
        size_bytes: Size of the shipped flatbuffer.
        latency_ms: p50 latency on the first runtime.
        runtime: Which one.
        arena_bytes: Tensor arena under tflite-micro.
        agreement: Share of test samples with the float model's answer, in percent.
    """

    figure: Figure = ACCURACY
    metrics: Mapping[str, float] = field(default_factory=dict)
    reference_metrics: Mapping[str, float] = field(default_factory=dict)
    reference: str = "the FP32 model"
    size_bytes: int | None = None
    latency_ms: float | None = None
    runtime: str = "the first runtime"
    arena_bytes: int | None = None
    agreement: float | None = None


def evaluate_budget(budget: BudgetSpec, figures: BudgetFigures) -> dict[str, Any]:
    """Returns {passed, lines}; a limit whose figure is missing is not passed.

    Each line has name (the recipe's key), what, limit, bound (`at most` or `at least`), value, unit, passed and text, a
    sentence for people.
    """
    accuracy, before = figures.metrics.get(ACCURACY.key), figures.reference_metrics.get(ACCURACY.key)
    drop = None if accuracy is None or before is None else before - accuracy
    size_kib = figures.size_bytes / KIB if figures.size_bytes is not None else None
    arena_kib = figures.arena_bytes / KIB if figures.arena_bytes is not None else None
    table: list[tuple[str, str, float | None, str, float | None, str]] = [
        (
            "accuracy_drop_points",
            f"accuracy lost against {figures.reference}",
            budget.accuracy_drop_points,
            "at most",
            drop,
            "points",
        ),
        ("accuracy", "test accuracy", budget.accuracy, "at least", accuracy, "%"),
        *_figure_limits(budget, figures),
        ("size_kib", "flatbuffer size", budget.size_kib, "at most", size_kib, "KiB"),
        ("latency_ms", f"p50 latency on {figures.runtime}", budget.latency_ms, "at most", figures.latency_ms, "ms"),
        ("arena_kib", "tensor arena on tflite-micro", budget.arena_kib, "at most", arena_kib, "KiB"),
        ("agreement", "agreement with the float model", budget.agreement, "at least", figures.agreement, "%"),
    ]
    lines = [
        _line(name, what, limit, bound=bound, value=value, unit=unit)
        for name, what, limit, bound, value, unit in table
        if limit is not None
    ]
    return {"passed": all(line["passed"] for line in lines), "lines": lines}


def unfounded(budget: Mapping[str, Any], known: Mapping[str, float]) -> list[str]:
    """Returns the lines of a budget, in words, that do not follow from their own figures or from what is known.

    Args:
        budget: As `evaluate_budget` gave it.
        known: Name of a line -> its value, as it was found again.
    """
    found = []
    for line in budget["lines"]:
        value, limit = line["value"], line["limit"]
        again = known.get(line["name"], value)
        if (value is None) != (again is None) or (
            value is not None and abs(value - again) > SAME * max(1.0, abs(again))
        ):
            found.append(
                f"{line['name']} is {again:g}, not {value}" if again is not None else f"{line['name']} is unknown"
            )
        elif value is None:
            found += [f"{line['name']} was not measured, but passed"] if line["passed"] else []
        elif abs(value - limit) > SAME and line["passed"] != (
            value < limit if line["bound"] == "at most" else value > limit
        ):
            found.append(f"{line['name']} is {value:g}, {line['bound']} {limit:g}, which {_said(line['passed'])}")
    if budget["passed"] != all(line["passed"] for line in budget["lines"]):
        found.append(f"the whole {_said(budget['passed'])}")
    return found


def _said(passed: bool) -> str:
    return f"is said to have {'passed' if passed else 'failed'}"


def _figure_limits(
    budget: BudgetSpec, figures: BudgetFigures
) -> Iterator[tuple[str, str, float | None, str, float | None, str]]:
    """Gives the limits on figures of other tasks than classification."""
    for figure in (AUC, MAE, RMSE, R2, PERPLEXITY, BITS_PER_BYTE):
        bound = "at least" if figure.larger_is_better else "at most"
        value = figures.metrics.get(figure.key)
        yield figure.key, f"test {figure.label}", getattr(budget, figure.key), bound, value, figure.unit
    main = figures.figure
    value, before = (known.get(main.key) for known in (figures.metrics, figures.reference_metrics))
    lost = None if value is None or before is None else main.lost_share(value, before)
    what = f"loss of {main.label}" if main.larger_is_better else f"rise of {main.label}"
    yield "drop_percent", f"{what} against {figures.reference}", budget.drop_percent, "at most", lost, "%"


def _line(name: str, what: str, limit: float, *, bound: str, value: float | None, unit: str) -> dict[str, Any]:
    if value is None:
        passed, found = False, "not measured"
    else:
        passed = value <= limit + ROUNDING if bound == "at most" else value >= limit - ROUNDING
        found = f"{_shown(value, limit, unit)} {unit}".rstrip()
    return {
        "name": name,
        "what": what,
        "limit": limit,
        "bound": bound,
        "value": None if value is None else round(value, 6),
        "unit": unit,
        "passed": passed,
        "text": f"{what}: {found}, {bound} {f'{limit:g} {unit}'.rstrip()} "
        + ("allowed" if bound == "at most" else "needed"),
    }


def _shown(value: float, limit: float, unit: str) -> str:
    """Returns the value with enough digits to tell it from the limit: 64.02 against 64, not 64.0 against 64."""
    text = {"KiB": f"{value:,.1f}", "ms": significant(value), "": significant(value, 4)}.get(unit, f"{value:.2f}")
    digits = 2
    while value != limit and float(text.replace(",", "")) == limit and digits < 9:  # noqa: PLR2004
        text = f"{value:,.{digits}f}"
        digits += 1
    return text
