"""`edgecompress recipes`: the recipes that come with the program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecompress_cli import render

if TYPE_CHECKING:
    from edgecompress.recipe.shipped import SharedFile

LIST, COPY = "list", "copy"


def recipes(
    action: Annotated[str, typer.Argument(metavar="[list|copy]", help="`list`, or `copy` with a name.")] = LIST,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A recipe, with .yaml or without, or another file of the list."),
    ] = None,
    *,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR|FILE", help="Where the copy goes. Default: the current folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the shipped recipes, or copy one to begin with.

    The list says of each what it shows, what data it needs and how to get them. A file that is there already is only
    overwritten with --force; without, the command exits with 4.

    Example: edgecompress recipes copy digits --to my-model.yaml
    """
    from edgecompress.errors import UsageError
    from edgecompress.recipe.shipped import shared_file, shared_files

    if action == COPY:
        if name is None:
            raise UsageError("copy which recipe? For example: edgecompress recipes copy digits")
        file = shared_file(name)
        _show_copy(file, _copy(file, to, force=force), as_json=as_json)
        return
    if action != LIST:
        raise UsageError(f"`{action}` is neither list nor copy. To copy a recipe: edgecompress recipes copy NAME")
    for given, what in ((name is not None, f"`{name}`"), (to is not None, "--to"), (force, "--force")):
        if given:
            raise UsageError(f"{what} is for copying: edgecompress recipes copy NAME")
    _show_list(shared_files(), as_json=as_json)


def _copy(file: SharedFile, to: str | None, *, force: bool) -> Path:
    """Copies a file and returns where it is now."""
    from edgecompress.errors import ResourceError
    from edgecompress.store.files import write_bytes

    into_folder = to is None or Path(to).is_dir() or to.endswith((os.sep, "/"))
    target = Path(to or ".", file.path.name) if into_folder else Path(str(to))
    if os.path.lexists(target) and not force:
        raise ResourceError(f"{target} is there already. Overwrite it with --force, or name another file with --to.")
    write_bytes(target, file.path.read_bytes())
    return target


def _show_copy(file: SharedFile, target: Path, *, as_json: bool) -> None:
    if as_json:
        render.emit_json({"ok": True, "name": file.name, "file": str(target), "data": file.data})
        return
    render.line(f"{target}: copied")
    if file.is_recipe:
        import shlex

        render.note(f"Data: {file.data}.")
        render.note(f"Run it: edgecompress run {shlex.quote(str(target))}")


def _show_list(files: tuple[SharedFile, ...], *, as_json: bool) -> None:
    shown = [file for file in files if file.is_recipe]
    others = [file for file in files if not file.is_recipe]
    if as_json:
        render.emit_json(
            {
                "ok": True,
                "recipes": [{"name": file.name, "about": file.about, "data": file.data} for file in shown],
                "others": [{"name": file.name, "about": file.about} for file in others],
            }
        )
        return
    render.table(("recipe", "what it shows", "data"), [(file.name, file.about, file.data) for file in shown])
    render.line()
    render.table(("other file", "what it is"), [(file.name, file.about) for file in others])
    render.note("Copy one: edgecompress recipes copy NAME")
