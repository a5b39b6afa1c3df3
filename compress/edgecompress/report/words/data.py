"""What the samples are, where that takes more than a shape: series, tables, tokens, audio, numbers to predict."""

from __future__ import annotations

from typing import Any

from edgecompress.report.numbers import number
from edgecompress.report.words.tables import Report
from edgecompress.wording import counted, in_digits

Fact = tuple[str, str]


def data_facts(report: Report) -> list[Fact]:
    """Returns name and value of what is worth telling of the data; nothing of pictures with classes."""
    data = report["data"]
    kind, shape = data.get("kind", "pictures"), data["input_shape"]
    rows: list[Fact] = []
    if kind == "tokens":
        rows.append(("Samples", f"text as {counted(shape[0], 'token')}; shorter ones are padded in front with 0"))
        rows.append(("Vocabulary", vocabulary_sentence(data["vocabulary"])))
    elif kind == "series":
        rows.append(("Samples", f"series of {counted(shape[0], 'step')} with {counted(shape[1], 'value')} each"))
    elif kind == "features":
        rows.append(("Samples", f"rows of {counted(shape[0], 'number')}"))
    if data.get("front_end"):
        rows.append(("Front end", front_end_sentence(data["front_end"])))
    targets = data.get("targets") or ()
    return rows + [(f"To predict: {one['name']}", scaled("output", one)) for one in targets]


def scaled(output: str, target: dict[str, Any]) -> str:
    """Returns how a number of a regression follows from the output: `output * 12.5 - 40`."""
    mean = target["mean"]
    return f"{output} * {target['std']:.7g} {'-' if mean < 0 else '+'} {in_digits(abs(mean), target['std'], 7)}"


def vocabulary_sentence(vocabulary: dict[str, Any]) -> str:
    """Returns kind, size and rules: `word, 8,000 tokens, small letters`; vocabulary.json holds the tokens."""
    small = ", small letters" if vocabulary.get("lowercase") else ""
    return f"{vocabulary['kind']}, {counted(vocabulary['size'], 'token')}{small} (vocabulary.json)"


def front_end_sentence(front_end: dict[str, Any]) -> str:
    """Returns how audio becomes frames, every parameter by its name."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in front_end.items())


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return number(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
