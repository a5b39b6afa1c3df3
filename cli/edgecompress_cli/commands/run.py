"""`edgecompress run`: all stages of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecompress.errors import ExitCode
from edgecompress_cli import render

if TYPE_CHECKING:
    from edgecompress.pipeline.run import Outcome

GO_ON = "interrupted. Finished stages are kept: run the same command again to go on."


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The run's folder. Default: runs/NAME.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set prune.ratio=0.7. Repeatable."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make every stage again.")] = False,
    keep_cache: Annotated[
        bool, typer.Option("--keep-cache", help="Reuse what an edgecompress with other code made.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if the result is doubtful, as if a budget was missed.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow what runs code: `python:`, Lambda layers, SavedModels.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files in the run's folder that no run has written.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Run a recipe: teacher, distill, prune, quantize, export, verify, benchmark.

    Leaves model.tflite and the report (report.json, .md, .html) in the run's folder. Finished stages are reused.
    The verdict is good, doubtful or failed. Exits with 3 if the budget was missed (with --strict also if the result is
    doubtful) and with 5 if the flatbuffer failed its verification.

    Example: edgecompress run recipes/digits.yaml --set prune.ratio=0.6
    """
    from edgecompress.pipeline.run import run_pipeline
    from edgecompress.pipeline.settings import default_output, open_store, trusted
    from edgecompress.recipe.reading.load import load_recipe
    from edgecompress_cli.crash import log_crashes_to
    from edgecompress_cli.display import make_display, told_parent

    parsed = load_recipe(recipe, overrides or ())
    folder = output or default_output(parsed)
    if folder.is_dir() or not folder.exists():
        log_crashes_to(folder / "run.log")
    try:
        with (
            render.nothing_else_on_stdout(as_json),
            make_display(render.stderr_console(), quiet=quiet) as display,
        ):
            outcome = run_pipeline(
                parsed,
                output=folder,
                store=open_store(),
                trust=trusted(trust),
                until=until,
                fresh=fresh,
                keep_cache=keep_cache,
                strict=strict,
                force=force,
                recipe_file=recipe,
                listeners=[display, told_parent],
            )
    except KeyboardInterrupt as event:
        raise KeyboardInterrupt(GO_ON) from event
    if as_json:
        steps = [{"stage": step.stage, "fingerprint": step.fingerprint} for step in outcome.plan.steps]
        document = outcome.report or {"stopped_after": until, "steps": steps, "doubts": list(outcome.doubts)}
        render.emit_json(
            {
                "ok": not outcome.exit_code,
                "exit_code": int(outcome.exit_code),
                "output": str(folder),
                "report": document,
            }
        )
    elif not quiet:
        from edgecompress.report.numbers import duration

        if outcome.report is not None:
            from edgecompress_cli.report_view import show_report

            show_report(outcome.report, folder)
        cached = " (everything was finished before)" if outcome.plan.cached else ""
        render.note(
            f"{folder}: {'stopped after ' + until if until else 'done'} in {duration(outcome.seconds)}{cached}",
            style="dim",
        )
    _say_why(outcome, shown=outcome.report is not None and not quiet and not as_json)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _say_why(outcome: Outcome, *, shown: bool) -> None:
    """Says on stderr why a run is no success; `shown`: the report, with its reasons first, was shown just now."""
    what = "verification failed" if outcome.exit_code == ExitCode.VERIFICATION else "budget missed"
    for message in outcome.messages:
        if message not in outcome.doubts:
            render.note(f"{what}: {message}", style="red")
    for doubt in outcome.doubts if outcome.exit_code or not shown else ():
        render.note(f"doubtful: {doubt}", style="yellow")
