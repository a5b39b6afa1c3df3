"""Numbers as people read them; the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

import math

from edgecompress.figures import change_text

MISSING = "-"
KIB = 1024


def kib(size_bytes: float | None) -> str:
    """Returns a size in KiB with one decimal: `62.3 KiB`."""
    return MISSING if size_bytes is None else f"{size_bytes / KIB:,.1f} KiB"


def significant(value: float, digits: int = 3) -> str:
    """Returns a number with at least `digits` significant digits and no exponent: `0.0713`, `2.41`, `134`."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")  # first, so that 9.999 becomes 10.0 and not 10.00
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{decimals}f}" if decimals > 0 else f"{value:,.0f}"


def milliseconds(latency_ms: float | None) -> str:
    """Returns a latency: `0.0713 ms`, `2.41 ms`, `134 ms`."""
    return MISSING if latency_ms is None else f"{significant(latency_ms)} ms"


def ratio(value: float | None) -> str:
    """Returns a ratio: `62.3x`."""
    return MISSING if value is None else f"{significant(value)}x"


def percent(value: float | None) -> str:
    """Returns a share that is already in percent: `92.61 %`."""
    return MISSING if value is None else f"{value:.2f} %"


def points(value: float | None) -> str:
    """Returns a signed difference of percentages: `-0.35 points`, `equal` where there is none."""
    return MISSING if value is None else change_text(value, "points")


def number(value: float | None) -> str:
    """Returns a count with thousands separated: `1,040,234`."""
    return MISSING if value is None else f"{value:,}"


def compact(value: float | None) -> str:
    """Returns a count in short: `1.04 M`, `60.2 k`, `512`."""
    if value is None:
        return MISSING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value:,}"


def than(value: float | None, more: str, less: str, reference: str) -> str:
    """Returns a ratio in words: `62.3x smaller than REFERENCE`; under 1 the reverse: `1.20x larger than REFERENCE`."""
    if value is None:
        return MISSING
    if significant(value) == "1.00":
        return f"the same as {reference}"
    return f"{ratio(value)} {more} than {reference}" if value > 1 else f"{ratio(1 / value)} {less} than {reference}"


def duration(seconds: float) -> str:
    """Returns a duration: `8.2 s`, `3 min 05 s`, `1 h 02 min`."""
    minute, hour = 60, 3600
    if seconds < minute:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < hour:
        return f"{whole // minute} min {whole % minute:02d} s"
    return f"{whole // hour} h {whole % hour // minute:02d} min"


def plain(value: float) -> str:
    """Returns a setting as a person would write it: `4`, `0.7`."""
    return f"{value:g}"
