"""What a run shows while it goes on: every event on every display."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from edgecompress.context import Event
from edgecompress_cli.display import LiveDisplay, PlainDisplay, SilentDisplay, figures_line, make_display

EVENTS = [
    Event("run-start", "", {"stages": ["teacher"], "cached": []}),
    Event("stage-cached", "teacher", {"seconds": 9.0}),
    Event("stage-start", "distill", {"reason": "not made yet", "fingerprint": "ab"}),
    Event("progress", "distill", {"done": 5, "total": 60, "unit": "soft targets, view 1"}),
    Event("progress", "distill", {"done": 1, "total": 40, "unit": "step"}),
    Event("progress", "distill", {"done": 20, "total": 40, "unit": "step"}),
    Event("epoch", "distill", {"epoch": 1, "epochs": 2, "loss": 1.23456, "validation_accuracy": 88.125}),
    Event("epoch", "distill", {"epoch": 2, "epochs": 2, "loss": 0.5}),
    Event("note", "distill", {"message": "converting [the] model"}),
    Event("warning", "distill", {"message": "it is [bold]small[/bold]"}),
    Event("stage-end", "distill", {"seconds": 75.4, "metrics": {"validation_accuracy": 90.5, "params": 77658, "x": 1}}),
    Event("stage-start", "export", {"reason": "follows distill", "fingerprint": "cd"}),
    Event("stage-end", "export", {"seconds": 2.0, "metrics": {}}),
    Event("unheard-of", "export", {}),
]


def show(kind: Any, events: list[Event], *, terminal: bool = False) -> str:
    console = Console(
        file=io.StringIO(), record=True, width=100, force_terminal=terminal, color_system=None, legacy_windows=False
    )
    with kind(console) as display:
        for event in events:
            display(event)
    return console.export_text()


def test_plain_lines() -> None:
    assert show(PlainDisplay, EVENTS).splitlines() == [
        "Teacher: finished before, reused",
        "Student: started (not made yet)",
        "Student: epoch 1/2, loss 1.2346, validation 88.12 %",
        "Student: epoch 2/2, loss 0.5000",
        "Student: converting [the] model",
        "Student: warning: it is [bold]small[/bold]",
        "Student: done in 1 min 15 s. validation 90.50 % · 77,658 parameters",
        "Export: started (follows distill)",
        "Export: done in 2.0 s",
    ]


def test_plain_lines_are_never_broken() -> None:
    long = Event("warning", "verify", {"message": "word " * 60 + "end"})
    assert len(show(PlainDisplay, [long]).splitlines()) == 1


def test_silence_but_for_warnings() -> None:
    assert show(SilentDisplay, EVENTS) == "Student: warning: it is [bold]small[/bold]\n"


@pytest.mark.parametrize("kind", [PlainDisplay, SilentDisplay, LiveDisplay])
def test_text_from_outside_commands_no_terminal(kind: type) -> None:
    text = show(kind, [Event("warning", "distill", {"message": "class \x1b]0;title\x07 [bold]x\x9b"})])
    assert r"class \x1b]0;title\x07 [bold]x\x9b" in text
    assert not set(text) & set("\x07\x1b\x9b")


def test_live_display_leaves_a_line_per_stage() -> None:
    text = show(LiveDisplay, EVENTS, terminal=True)
    assert "✓ Teacher    finished before, reused" in text
    assert "! Student    it is [bold]small[/bold]" in text
    assert "✓ Student      1 min 15 s  validation 90.50 % · 77,658 parameters" in text
    assert "✓ Export" in text


def test_live_display_shows_what_is_at_work() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, legacy_windows=False)
    display = LiveDisplay(console)

    def task() -> tuple[str, float, float | None, str]:
        (only,) = display._progress.tasks
        return only.description, only.completed, only.total, only.fields["detail"]

    display(EVENTS[2])
    assert task() == ("Student", 0, None, "")
    display(EVENTS[3])
    assert task() == ("Student", 5, 60, "5/60 soft targets, view 1")
    display(EVENTS[6])
    display(EVENTS[5])
    assert task() == ("Student", 20, 40, "epoch 1/2 · loss 1.235 · 88.12 %")
    display(EVENTS[10])
    assert display._progress.tasks == []
    display(Event("progress", "verify", {"done": 3, "total": 9, "unit": "test samples"}))
    assert task() == ("Verify", 3, 9, "3/9 test samples")


@pytest.mark.parametrize(
    ("terminal", "quiet", "kind"),
    [
        (True, False, LiveDisplay),
        (False, False, PlainDisplay),
        (True, True, SilentDisplay),
        (False, True, SilentDisplay),
    ],
)
def test_the_display_fits_the_stream(terminal: bool, quiet: bool, kind: type) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    assert type(make_display(console, quiet=quiet)) is kind


def test_figures_of_a_stage() -> None:
    metrics = {"macs": 9_437_184, "validation_accuracy": None, "ptq_validation_accuracy": 90.0, "test_samples": 360}
    assert figures_line(metrics) == "calibrated 90.00 % · 9,437,184 MACs · 360 test samples"
    assert figures_line({"params": 1, "test_samples": 1}) == "1 parameter · 1 test sample"
    assert figures_line({}) == ""
