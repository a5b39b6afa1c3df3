"""`edgecompress schema`: what a recipe may hold, for editors and for readers."""

from __future__ import annotations

from typing import Annotated

import typer

from edgecompress_cli import render


def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference as Markdown instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Schema (the default).")] = False,
) -> None:
    """Print the JSON Schema of recipes.

    Editors complete and check YAML with it; for those that use yaml-language-server, the first line of a recipe says
    where it is: # yaml-language-server: $schema=recipe.schema.json

    Example: edgecompress schema > recipe.schema.json
    """
    from edgecompress.errors import UsageError
    from edgecompress.recipe.reference import json_schema, reference_markdown

    if markdown and as_json:
        raise UsageError("--markdown and --json exclude each other: choose one.")
    if markdown:
        render.document(reference_markdown().rstrip("\n"))
    else:
        render.emit_json(json_schema())
