"""`edgecompress analyze`: which layer of a finished run loses what in quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgecompress_cli import render

#: Where there is no terminal, lines are at most this long.
WIDTH = 100


def analyze(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a finished run.")],
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Layers to show, the costliest first.")] = 10,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Samples to judge by. [512 of the validation split; fewer for large networks]"
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow what runs code: `python:`, Lambda layers, SavedModels.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with every layer.")] = False,
) -> None:
    """Show which layer loses what in quantization, and what keeping it in float would bring back.

    Layers are ranked by the accuracy gained on validation samples (or agreement with the float model on calibration
    samples, where there are none) when that layer alone is kept in float, then by the gain at the network's output.

    Example: edgecompress analyze runs/digits --top 5
    """
    from edgecompress.pipeline.recheck_layers import analyse_layers
    from edgecompress.pipeline.settings import open_store, trusted
    from edgecompress_cli.display import make_display

    with (
        render.nothing_else_on_stdout(as_json),
        make_display(render.stderr_console(), quiet=not render.stderr_console().is_terminal) as display,
    ):
        found = analyse_layers(folder, open_store(), samples=samples, trust=trusted(trust), listeners=(display,))
    if as_json:
        render.emit_json({"ok": True, "folder": str(folder), **found})
    else:
        _show(found, top)


def _show(found: dict[str, Any], top: int) -> None:
    from edgecompress.report.words.analysis import LEGEND, analysis_sentence, analysis_table

    layers = found["layers"]
    shown = analysis_table(layers[:top], render.terminal_width() or WIDTH)
    render.parts([(analysis_sentence(found), "")])
    render.line()
    render.table(shown.headers, shown.rows, right=shown.right)
    if len(layers) > top:
        render.line(f"{len(layers) - top} more (--top {len(layers)} shows all)", style="dim")
    render.line()
    render.parts([(LEGEND, "dim")])
    render.line()
    render.parts([(found["conclusion"], "bold")])
