"""`edgecompress verify`: a finished run, checked again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecompress_cli import render

MARKS = {True: "ok", False: "FAILED", None: "not checked"}


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a finished run.")],
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow what runs code: `python:`, Lambda layers, SavedModels.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score a run's flatbuffer again on the test split and check every hash.

    Exits with 5 if anything is not as the run left it. The run's own verdict (good, doubtful or failed) is shown too.

    Example: edgecompress verify runs/digits
    """
    from edgecompress.errors import ExitCode
    from edgecompress.pipeline.recheck import recheck
    from edgecompress.pipeline.settings import open_store, trusted
    from edgecompress_cli.display import make_display
    from edgecompress_cli.report_view import COLOURS

    with (
        render.nothing_else_on_stdout(as_json),
        make_display(render.stderr_console(), quiet=not render.stderr_console().is_terminal) as display,
    ):
        verdict = recheck(folder, open_store(), trust=trusted(trust), listeners=(display,))
    if as_json:
        render.emit_json({"ok": verdict["passed"], "folder": str(folder), **verdict})
    else:
        render.table(
            ["check", "result", "detail"],
            [(check["name"], MARKS[check["passed"]], check["detail"]) for check in verdict["checks"]],
        )
        render.line(f"{folder}: " + ("verified" if verdict["passed"] else "NOT as the run left it"))
        render.line(f"Taken from the report on trust: {', '.join(verdict['not_recomputed'])}.")
        judged = verdict["verdict"]
        render.line(f"The run's own verdict: {judged['status']}", style=COLOURS[judged["status"]])
        render.items((reason["text"] for reason in judged["reasons"]), style=COLOURS[judged["status"]])
    if not verdict["passed"]:
        raise typer.Exit(ExitCode.VERIFICATION)
