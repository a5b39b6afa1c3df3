"""`edgecompress doctor`: what is installed, what works, what is missing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgecompress.wording import counted
from edgecompress_cli import render

GIB = 1024**3
MIB = 1024**2


def doctor(
    install: Annotated[
        str | None,
        typer.Option("--install", metavar="RUNTIME", help="Set up a runtime that needs an environment of its own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what is installed, what works and what is missing.

    Every runtime is tried on a tiny flatbuffer, in a process of its own. Exits with 0 if a run can work, else with 4.

    Example: edgecompress doctor
    Example: edgecompress doctor --install tflite-runtime
    """
    from edgecompress.errors import ExitCode, UsageError
    from edgecompress.pipeline.diagnosis import diagnose
    from edgecompress.tflite.runtime import private_env

    if install is not None:
        if install != "tflite-runtime":
            raise UsageError(
                f"--install {install}: only tflite-runtime needs an environment of its own; "
                "the others come with: pip install -e '.[micro]'"
            )
        render.note(f"tflite-runtime {private_env.RELEASE} with NumPy 1 is in {private_env.install()}")
    found = diagnose()
    if as_json:
        render.emit_json(found)
    else:
        _show(found)
    if not found["ok"]:
        raise typer.Exit(ExitCode.RESOURCE)


def _show(found: dict[str, Any]) -> None:
    machine = found["machine"]
    render.line(f"edgecompress {found['edgecompress']}, Python {found['python']}, {found['platform']}")
    features = f" ({', '.join(machine['features'])})" if machine["features"] else ""
    threads = "" if machine["threads"] == machine["cores"] else f", {counted(machine['threads'], 'thread')} at most"
    render.line(f"{machine['processor']}, {counted(machine['cores'], 'core')}{threads}{features}")
    total, free = machine["memory_bytes"] / GIB, machine["memory_available_bytes"] / GIB
    render.line(f"memory: {total:.1f} GiB, {free:.1f} GiB available" if total else "memory: unknown")
    render.line()
    rows = [
        (
            name,
            row["version"],
            "works" if row["works"] else f"does not work: {row['reason']}" if row["version"] else row["reason"],
        )
        for name, row in found["runtimes"].items()
    ]
    render.table(("runtime", "version", "state"), rows)
    render.line()
    render.table(
        ("library", "version", ""),
        [(row["name"], row["version"], _state(row)) for row in found["libraries"]],
    )
    render.line()
    for folder in found["folders"]:
        size = f"{folder['size_bytes'] / MIB:.1f} MiB, " if folder["size_bytes"] is not None else ""
        render.line(f"{folder['name']} folder {folder['path']}: {size}{folder['free_bytes'] / GIB:.1f} GiB free")
    for name, path in found["data"].items():
        render.line(f"data {name}: {path or 'not found (brought by: make data)'}")
    render.line()
    if found["ok"]:
        render.line("A run can work here.", style="green")
        return
    broken = [name for name, row in found["runtimes"].items() if name == "litert" and not row["works"]]
    absent = [name for name in [*found["missing"], *broken] if not (found["conversion"] and name == "litert-torch")]
    if found["conversion"]:
        render.line(f"A run cannot work here to its end: {found['conversion']}", style="bold red")
    if absent:
        render.line(f"A run cannot work here: {', '.join(absent)} must be installed.", style="bold red")


def _state(row: dict[str, Any]) -> str:
    if row["version"]:
        return ""
    return "MISSING" if row["required"] else "optional"
