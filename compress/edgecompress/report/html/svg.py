"""A small SVG drawer for the report's plots.

The plots are written by hand because they have to follow the page's light and dark colours (CSS variables), stay
legible at any width, hold real text, and be the same bytes for the same figures.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgecompress.wording import printable

#: Average advance of a character as a share of the font size, to keep labels apart; system fonts are near it.
CHARACTER = 0.56
#: A drawing wider than this scrolls sideways on a phone: shrunk to it, its text could not be read.
NARROW = 400
NICE_STEPS = (1.0, 2.0, 5.0, 10.0)


def esc(text: object) -> str:
    """Returns text safe inside HTML and SVG, attributes too."""
    return html.escape(printable(str(text)), quote=True)


def short(value: float) -> str:
    """Returns a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


@dataclass(frozen=True)
class Axis:
    """A range of values laid over a range of pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Returns the pixel of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 5) -> list[float]:
        """Returns round values within the range: multiples of 1, 2 or 5, or powers of ten on a logarithmic axis."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high, most)


def linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Returns at most about `most` round values from low to high."""
    raw = (high - low) / max(most, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(nice * magnitude for nice in NICE_STEPS if nice * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Returns 1, 2 and 5 times the powers of ten from low to high; only the powers where that would be too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    found = [value for value in every if low <= value <= high]
    powers = [10.0**decade for decade in decades if low <= 10.0**decade <= high]
    return powers if len(found) > 7 and len(powers) > 1 else found  # noqa: PLR2004 - what fits side by side


def padded(values: Iterable[float], share: float = 0.12) -> tuple[float, float]:
    """Returns a range that holds the values with some room; never an empty one."""
    found = list(values)
    low, high = min(found), max(found)
    room = (high - low) * share or max(abs(high) * 0.05, 0.5)
    return low - room, high + room


@dataclass
class Drawing:
    """A picture in the making; `render` gives the SVG.

    Attributes:
        width: In user units, which are pixels at full size.
        height: The same.
        label: What it shows, for screen readers.
    """

    width: float
    height: float
    label: str
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "grid") -> None:
        """Draws a straight line of a CSS class."""
        self.parts.append(
            f'<line x1="{short(x1)}" y1="{short(y1)}" x2="{short(x2)}" y2="{short(y2)}" class="{style}"/>'
        )

    def path(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Draws a line through points."""
        steps = " ".join(f"{'M' if place == 0 else 'L'}{short(x)} {short(y)}" for place, (x, y) in enumerate(points))
        self.parts.append(f'<path d="{steps}" class="{style}"/>')

    def circle(self, x: float, y: float, radius: float, style: str, tip: str = "") -> None:
        """Draws a dot."""
        self.parts.append(
            f'<circle cx="{short(x)}" cy="{short(y)}" r="{short(radius)}" class="{style}">{_tip(tip)}</circle>'
        )

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        style: str,
        *,
        tip: str = "",
        opacity: float | None = None,
    ) -> None:
        """Draws a rectangle."""
        seen = f' fill-opacity="{short(opacity)}"' if opacity is not None else ""
        self.parts.append(
            f'<rect x="{short(x)}" y="{short(y)}" width="{short(width)}" height="{short(height)}" rx="2" '
            f'class="{style}"{seen}>{_tip(tip)}</rect>'
        )

    def text(
        self, x: float, y: float, text: str, style: str = "tick", anchor: str = "start", *, turn: float = 0
    ) -> None:
        """Writes text; `anchor` is start, middle or end."""
        turned = f' transform="rotate({short(turn)} {short(x)} {short(y)})"' if turn else ""
        self.parts.append(
            f'<text x="{short(x)}" y="{short(y)}" class="{style}" text-anchor="{anchor}"{turned}>{esc(text)}</text>'
        )

    def render(self) -> str:
        """Returns the SVG element in its frame."""
        wide = ' class="wide"' if self.width > NARROW else ""
        box = f'viewBox="0 0 {short(self.width)} {short(self.height)}"'
        size = f'style="max-width:{short(self.width * 1.35)}px"'
        head = f'<svg {box}{wide} role="img" aria-label="{esc(self.label)}" {size}>'
        return f'<div class="plot">{head}{"".join(self.parts)}</svg></div>'


def _tip(text: str) -> str:
    return f"<title>{esc(text)}</title>" if text else ""


def text_width(text: str, size: float = 12) -> float:
    """Returns about how wide a text is."""
    return len(text) * size * CHARACTER
