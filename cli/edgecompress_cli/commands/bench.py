"""`edgecompress bench`: latency of flatbuffers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecompress.report.numbers import significant
from edgecompress.wording import counted
from edgecompress_cli import render

REPORT_EVERY_SHARE = 10


def bench(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.tflite...", help="Flatbuffers.")],
    threads: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Interpreter threads, 1 to 256. Repeatable. [1]")
    ] = None,
    runtimes: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime", metavar="NAME", help="`litert` or `tensorflow` (reference kernels). Repeatable. [litert]"
        ),
    ] = None,
    runs: Annotated[int, typer.Option(metavar="N", help="Timed runs per file, 1 to 1,000,000.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure the latency of flatbuffers: p50 and p95, interleaved when several files are given.

    Interleaved means that the files take turns, so that noise of the machine hits all of them alike and the ratios
    hold. A file given twice shows how noisy the machine is. Inputs are random; interpreters run in a process of their
    own.

    Example: edgecompress bench teacher.tflite model.tflite --threads 1 --threads 2
    """
    from dataclasses import asdict

    from edgecompress.tflite.runtime.bench import bench as measure

    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done * REPORT_EVERY_SHARE // total > told:
            told = done * REPORT_EVERY_SHARE // total
            render.note(f"{done} of {counted(total, 'run')}")

    rows = measure(files, runtimes=runtimes or ["litert"], threads=threads or [1], runs=runs, on_progress=progress)
    if as_json:
        results = [
            {"file": row.file, "runtime": row.runtime, "threads": row.threads, **asdict(row.latency)} for row in rows
        ]
        render.emit_json({"ok": True, "first": str(files[0]), "runs": runs, "results": results})
        return
    render.table(
        ["file", "runtime", "threads", "p50 ms", "p95 ms", "min ms", "time ratio"],
        [
            (
                row.file,
                row.runtime,
                row.threads,
                significant(row.latency.p50_ms),
                significant(row.latency.p95_ms),
                significant(row.latency.min_ms),
                significant(row.latency.ratio_to_first),
            )
            for row in rows
        ],
        right=["threads", "p50 ms", "p95 ms", "min ms", "time ratio"],
    )
    if len(files) > 1:
        render.line(f"Time ratio: against {files[0]}, same runtime and threads; below 1 is faster.", style="dim")
