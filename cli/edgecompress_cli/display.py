"""What a run shows while it goes on: bars on a terminal, one line per epoch elsewhere, nothing with --quiet."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgecompress.context import Event
from edgecompress.figures import ACCURACY, figure_text, told
from edgecompress.report.numbers import duration
from edgecompress.wording import counted, one_line
from edgecompress_cli.supervise import tell

TITLES = {
    "teacher": "Teacher",
    "distill": "Student",
    "prune": "Prune",
    "quantize": "Quantize",
    "export": "Export",
    "verify": "Verify",
    "benchmark": "Benchmark",
    "analyze": "Analyze",
}
#: What a stage's validation figures begin with -> how that reads.
VALIDATION = {"validation_": "validation", "ptq_validation_": "calibrated", "float_validation_": "float"}
#: Other figures of a finished stage worth a line: key -> how it reads.
FIGURES: dict[str, Callable[[Any], str]] = {
    "params": functools.partial(counted, noun="parameter"),
    "macs": "{:,} MACs".format,
    "test_samples": functools.partial(counted, noun="test sample"),
}


def figures_line(metrics: dict[str, Any]) -> str:
    """Returns the figures of a stage in one line."""
    scored = [figure_told(metrics, prefix, text) for prefix, text in VALIDATION.items()]
    others = [form(metrics[key]) for key, form in FIGURES.items() if metrics.get(key) is not None]
    return " · ".join([*filter(None, scored), *others])


def figure_told(found: dict[str, Any], prefix: str, text: str) -> str:
    """Returns a task's main figure in words: `validation 88.12 %`, `validation MAE 0.412`; "" where there is none."""
    known = told(found, prefix)
    if known is None:
        return ""
    figure, value = known
    return f"{text} {'' if figure == ACCURACY else f'{figure.label} '}{figure_text(figure, value)}"


def told_parent(event: Event) -> None:
    """Lets the process that waits for this one know what a run is at, should native code end it there."""
    match event.kind:
        case "stage-start":
            tell(f"making the {event.stage} stage")
        case "doing":
            tell(event.data["message"])


class PlainDisplay:
    """One line per stage and per epoch, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Writes to `console`."""
        self._console = console

    def __enter__(self) -> Self:
        """Starts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends."""

    def _line(self, text: str) -> None:
        self._console.print(escape(one_line(text)), soft_wrap=True, highlight=False)

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        title, data = TITLES.get(event.stage, "Run"), event.data
        match event.kind:
            case "stage-start":
                self._line(f"{title}: started ({data['reason']})")
            case "stage-cached":
                self._line(f"{title}: finished before, reused")
            case "stage-end":
                self._line(
                    f"{title}: done in {duration(data['seconds'])}. {figures_line(data['metrics'])}".rstrip(". ")
                )
            case "epoch":
                scored = figure_told(data, "validation_", ", validation")
                self._line(f"{title}: epoch {data['epoch']}/{data['epochs']}, loss {data['loss']:.4f}{scored}")
            case "note":
                self._line(f"{title}: {data['message']}")
            case "warning":
                self._line(f"{title}: warning: {data['message']}")
            case _:
                pass


class LiveDisplay:
    """A progress bar with time left for the stage at work, a line for each finished one."""

    def __init__(self, console: Console) -> None:
        """Draws on `console`, a terminal."""
        self._console = console
        self._progress = Progress(
            TextColumn("  [bold]{task.description:<10}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[left]}"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._unit = ""
        self._epoch = ""
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Clears the bar."""
        self._progress.stop()

    def _close(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _open(self, title: str, total: float | None = None) -> None:
        self._close()
        self._task = self._progress.add_task(title, total=total, detail="", left="left" if total else "")

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        title, data = TITLES.get(event.stage, "Run"), event.data
        match event.kind:
            case "stage-start":
                self._unit = self._epoch = ""
                self._open(title)
            case "stage-cached":
                self._console.print(f"  [green]✓[/] [bold]{title:<10}[/] [dim]finished before, reused")
            case "stage-end":
                self._close()
                figures = escape(figures_line(data["metrics"]))
                self._console.print(
                    f"  [green]✓[/] [bold]{title:<10}[/] {duration(data['seconds']):>12}  [dim]{figures}",
                    highlight=False,
                )
            case "progress":
                self._advance(title, data)
            case "epoch":
                scored = figure_told(data, "validation_", " ·")
                self._epoch = f"epoch {data['epoch']}/{data['epochs']} · loss {data['loss']:.3f}{scored}"
            case "warning":
                message = escape(one_line(data["message"]))
                self._console.print(f"  [yellow]![/] [bold]{title:<10}[/] {message}", highlight=False)
            case _:
                pass

    def _advance(self, title: str, data: dict[str, Any]) -> None:
        if self._task is None or data["unit"] != self._unit:
            self._unit = data["unit"]
            self._open(title, data["total"])
        if self._task is not None:
            detail = self._epoch if data["unit"] == "step" else f"{data['done']}/{data['total']} {data['unit']}"
            self._progress.update(self._task, completed=data["done"], total=data["total"], detail=detail)


class SilentDisplay(PlainDisplay):
    """Shows warnings only."""

    def __call__(self, event: Event) -> None:
        """Shows an event if it is a warning."""
        if event.kind == "warning":
            super().__call__(event)


Display = PlainDisplay | LiveDisplay


def make_display(console: Console, *, quiet: bool) -> Display:
    """Returns the display that fits: silent when asked, bars on a terminal, else plain lines."""
    if quiet:
        return SilentDisplay(console)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)
