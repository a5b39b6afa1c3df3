"""`edgecompress validate`: checks recipes without running them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecompress_cli import render


def validate(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE", help="Recipe files.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as `run` would. Repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check recipes and list every problem.

    Each problem comes with its line and, where there is one, the nearest valid name. Nothing is run and no data is
    read. Exits with 0 if all recipes are fine and with 2 if any is not.

    Example: edgecompress validate recipes/*.yaml
    """
    from edgecompress.errors import ExitCode, RecipeError
    from edgecompress.recipe.reading.load import load_recipe

    results = []
    for path in recipes:
        try:
            recipe = load_recipe(path, overrides or ())
        except RecipeError as error:
            results.append((path, "", error.problems))
        else:
            results.append((path, recipe.name, []))
    bad = sum(bool(problems) for _, _, problems in results)
    if as_json:
        rows = [
            {"file": str(path), "ok": not problems, "name": name, "problems": [vars(found) for found in problems]}
            for path, name, problems in results
        ]
        render.emit_json({"ok": not bad, "recipes": rows})
    else:
        for path, _, problems in results:
            if not problems:
                render.line(f"{path}: OK")
            for found in problems:
                render.problem(found)
    if bad:
        raise typer.Exit(ExitCode.RECIPE)
