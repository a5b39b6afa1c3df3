"""`edgecompress inspect`: what a flatbuffer holds and needs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecompress.report.numbers import kib
from edgecompress.wording import counted
from edgecompress_cli import render

#: Longer layer names are cut in the table; JSON has them whole.
NAME_WIDTH = 40
SHOWN_FAULTS = 10
SHOWN_LABELS = 10


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE.tflite", help="A flatbuffer.")],
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Run it once, in a process of its own, for the arena's size.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show operators, types, sizes per layer, sparsity, quantization parameters and the tensor arena of a flatbuffer.

    Example: edgecompress inspect runs/digits/model.tflite
    """
    from edgecompress.tflite.facts.inspection import inspect_flatbuffer

    found = inspect_flatbuffer(file, run=run)
    if as_json:
        render.emit_json({"ok": True, **found})
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    packed = f"{kib(found['gzip_bytes'])} with gzip, {kib(found['zstd_bytes'])} with zstd"
    render.line(f"{found['file']}: {kib(found['size_bytes'])}, {packed}", style="bold")
    for title in ("inputs", "outputs"):
        for end in found[title]:
            render.line(f"{title[:-1]:<7} {end['name'] or 'unnamed'}  {end['dtype']}{end['shape']}  {end['how']}")
    if found["metadata"]:
        render.line(f"metadata: {', '.join(found['metadata'])}")
    _show_metadata(found["tflite_metadata"])
    render.line()
    render.table(
        ["#", "layer", "operator", "types", "output", "MACs", "bytes", "zeros", "weights", "output scale, zero point"],
        [_layer_row(layer) for layer in found["layers"]],
        right=["#", "MACs", "bytes", "zeros"],
    )
    render.line()
    render.table(
        ["operator", "count", "types"],
        [
            (name, entry["count"], ", ".join(f"{dtype} {count}" for dtype, count in entry["dtypes"].items()))
            for name, entry in found["ops"].items()
        ],
        right=["count"],
    )
    render.line()
    render.line("tensors:   " + ", ".join(f"{dtype} {count}" for dtype, count in found["tensors"].items()))
    render.line(f"MACs:      {found['macs']:,}")
    weights, q = found["weights"], found["quantization"]
    render.line(f"weights:   {weights['count']:,}, {weights['share']:.1%} of them zero")
    render.line(
        f"quantized: {counted(q['per_tensor'], 'tensor')} with one scale, {q['per_channel']} with one per channel, "
        f"{q['none']} with none"
    )
    render.line("bytes:     " + ", ".join(f"{part} {size:,}" for part, size in found["bytes"].items() if size))
    allowed = found["overhead_allowance_bytes"]
    within = found["overhead_bytes"] <= allowed
    render.line(
        f"overhead:  {counted(found['overhead_bytes'], 'byte')} beside parameters, scales and metadata "
        f"({'within' if within else 'more than'} the {allowed:,} that its operators and tensors allow)",
        style="" if within else "yellow",
    )
    if found["runs"] is not None:
        runs, arena = found["runs"], found["arena"]
        render.line(
            f"LiteRT:    {'runs it' if runs['works'] else runs['reason']}", style="" if runs["works"] else "red"
        )
        render.line(f"arena:     {_arena(arena)}")
    _show_faults(found["not_int8"])


def _show_metadata(told: dict[str, Any] | None) -> None:
    if told is None:
        return
    if told["problem"] is not None:
        render.line(f"  unreadable: {told['problem']}", style="yellow")
        return
    version = f", version {told['version']}" if told["version"] else ""
    render.line(f"  {told['name'] or 'unnamed'}{version}: {told['description'] or 'not described'}")
    for title in ("inputs", "outputs"):
        for end in told[title]:
            facts = [" ".join(part for part in (end["content"], end["color_space"]) if part)]
            if end["mean"]:
                facts.append(f"(value - {_numbers(end['mean'])}) / {_numbers(end['std'])}")
            facts += [file["name"] for file in end["files"]]
            render.line(f"  {title[:-1]:<7} {end['name'] or 'unnamed'}: {', '.join(fact for fact in facts if fact)}")
    if told["labels"]:
        shown = ", ".join(told["labels"][:SHOWN_LABELS])
        more = ", ..." if len(told["labels"]) > SHOWN_LABELS else ""
        render.line(f"  labels  {len(told['labels'])}: {shown}{more}")


def _numbers(values: list[float]) -> str:
    shown = [f"{value:.6g}" for value in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def _layer_row(layer: dict[str, Any]) -> tuple[Any, ...]:
    sparsity, q = layer["sparsity"], layer["weight_quantization"]
    scale = layer["output_scale"]
    name = layer["layer"].split(";")[0]
    weights = None
    if layer["weight_dtype"] is not None:
        shape = "x".join(str(side) for side in layer["weight_shape"])
        weights = f"{layer['weight_dtype']} {shape}" + (f", {q['kind']}" if q else "")
    return (
        layer["index"],
        name if len(name) <= NAME_WIDTH else f"...{name[3 - NAME_WIDTH :]}",
        layer["op"],
        layer["dtypes"],
        "x".join(str(side) for side in layer["output_shape"]),
        f"{layer['macs']:,}" if layer["macs"] is not None else None,
        f"{layer['constant_bytes']:,}",
        f"{sparsity['share']:.1%}" if sparsity else None,
        weights,
        f"{scale:.5g}, {layer['output_zero_point']}" if scale else None,
    )


def _show_faults(faults: list[dict[str, Any]]) -> None:
    if not faults:
        render.line("INT8 throughout.", style="green")
        return
    dtypes = Counter(fault["dtype"] for fault in faults)
    render.line()
    if set(dtypes) == {"int16"}:
        render.line(f"Integers throughout: INT8, and INT16 in {counted(len(faults), 'tensor')}", style="green")
    else:
        listed = ", ".join(f"{count} {dtype}" for dtype, count in sorted(dtypes.items()))
        render.line(f"Not INT8: {counted(len(faults), 'tensor')} ({listed})", style="yellow")
    for fault in faults[:SHOWN_FAULTS]:
        render.line(f"  {fault['op']} (#{fault['op_index']}, {fault['layer'].split(';')[0]}): {fault['why']}")
    if len(faults) > SHOWN_FAULTS:
        render.line(f"  and {len(faults) - SHOWN_FAULTS} more (--json lists all)")
    render.line("A recipe may have asked for these types (quantize.activations, quantize.allow).", style="dim")


def _arena(arena: dict[str, Any]) -> str:
    if arena["arena_bytes"] is None:
        return f"not available ({arena['reason']})"
    return (
        f"{kib(arena['arena_bytes'])} by tflite-micro ({kib(arena['activation_bytes'])} activations, "
        f"{kib(arena['persistent_bytes'])} structures on this 64-bit machine)"
    )
