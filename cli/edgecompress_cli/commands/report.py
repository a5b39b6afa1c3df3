"""`edgecompress report`: finished runs, shown or compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgecompress_cli import render


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of finished runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a finished run, or compare several.

    Of one run: verdict, figures against the FP32 teacher and student, budget, warnings. Of several: one row each, then
    the keys in which their recipes differ. The budget does not decide the exit code here; `run` did that.

    Example: edgecompress report runs/digits runs/digits-sparse
    """
    from edgecompress.errors import ResourceError
    from edgecompress.report.document import load_report

    runs = [(str(folder), load_report(folder)) for folder in folders]
    try:
        _show(runs, folders, as_json=as_json)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        # What a run writes can be shown, tests see to that; a report may have been made to look like one.
        what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ResourceError(
            f"{', '.join(folder for folder, _ in runs)}: the report cannot be shown ({what}): it is not what a run "
            "writes. Run the recipe again."
        ) from error


def _show(runs: list[tuple[str, dict[str, Any]]], folders: list[Path], *, as_json: bool) -> None:
    if len(runs) == 1:
        folder, found = runs[0]
        if as_json:
            render.emit_json({"ok": True, "output": folder, "report": found})
        else:
            from edgecompress_cli.report_view import show_report

            show_report(found, folders[0].parent if folders[0].is_file() else folders[0])
        return

    from edgecompress.report.words.compare import compare

    compared = compare(runs)
    if as_json:
        render.emit_json(
            {
                "ok": True,
                "comparison": compared.rows,
                "recipe_differences": compared.differences,
                "notes": compared.notes,
                "runs": [{"output": folder, "report": found} for folder, found in runs],
            }
        )
    else:
        from edgecompress_cli.report_view import show_comparison

        show_comparison(compared)
