"""`edgecompress plan`: what a run would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgecompress_cli import render

#: What is told of a training, beside its learning rate.
HOW = ("stage", "epochs", "batch_size", "optimizer")


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as `run` would. Repeatable.")
    ] = None,
    keep_cache: Annotated[
        bool, typer.Option("--keep-cache", help="As `run` would: reuse what an edgecompress with other code made.")
    ] = False,
    sizes: Annotated[
        bool,
        typer.Option(
            "--sizes",
            help="Build the models: parameters, MACs, bytes, and what trainings leave open.",
        ),
    ] = False,
    convert: Annotated[
        bool,
        typer.Option("--convert", help="Convert and quantize the networks as they start: the operators to come."),
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow what runs code: `python:`, Lambda layers, SavedModels.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the steps of a recipe: what is finished already, what has to be made, and why.

    Example: edgecompress plan recipes/fashion-mnist-qat.yaml --sizes
    """
    from edgecompress.pipeline.plan import make_plan
    from edgecompress.pipeline.settings import open_store, trusted
    from edgecompress.recipe.reading.load import load_recipe
    from edgecompress.recipe.trainings import in_words, trainings

    parsed = load_recipe(recipe, overrides or ())
    store = open_store()
    predicted: list[dict[str, Any]] = []
    trains = [{"stage": stage, **in_words(spec, habits)} for stage, spec, habits in trainings(parsed)]
    with render.nothing_else_on_stdout(as_json):
        made = make_plan(parsed, store, trust=trusted(trust), keep_cache=keep_cache)
        if sizes:
            from edgecompress.context import Context
            from edgecompress.stages.before.sizes import predict_sizes, settled_trainings

            ctx = Context(parsed.seed, trust=trusted(trust))
            predicted, trains = predict_sizes(parsed, ctx, store), settled_trainings(parsed, ctx, store)
        operators: list[dict[str, Any]] = []
        if convert:
            from edgecompress.context import Context
            from edgecompress.stages.before.rehearsal import predict_operators
            from edgecompress_cli.display import told_parent

            ctx = Context(parsed.seed, trust=trusted(trust), listeners=[told_parent])
            operators = predict_operators(parsed, ctx, store)
    steps = [
        {
            "stage": step.stage,
            "status": "cached" if step.result else "to do",
            "reason": step.reason,
            "fingerprint": step.fingerprint,
            "kept_code": list(step.kept),
        }
        for step in made.steps
    ]
    if as_json:
        render.emit_json(
            {
                "ok": True,
                "recipe": str(recipe),
                "name": parsed.name,
                "data_sha256": made.data_sha256,
                "steps": steps,
                "sizes": predicted,
                "trainings": trains,
                "operators": operators,
            }
        )
        return
    render.table(
        ["stage", "status", "why", "fingerprint"],
        [(step["stage"], step["status"], step["reason"], step["fingerprint"][:12]) for step in steps],
    )
    if trains:
        render.line()
        rows = [(*(str(row[key]) for key in HOW), _rate(row["learning_rate"])) for row in trains]
        render.table(["stage", "epochs", "batch size", "optimizer", "learning rate"], rows, title="Trainings")
    if predicted:
        render.line()
        render.table(
            ["model", "parameters", "MACs", "FP32 KiB", "INT8 KiB"],
            [
                (
                    row["label"],
                    f"{row['params']:,}",
                    f"{row['macs']:,}",
                    f"{row['float_bytes'] / 1024:,.1f}",
                    f"{row['int8_bytes'] / 1024:,.1f}",
                )
                for row in predicted
            ],
            title="Predicted sizes (flatbuffers, before anything is trained)",
            right=["parameters", "MACs", "FP32 KiB", "INT8 KiB"],
        )
    _show_operators(operators)


def _show_operators(operators: list[dict[str, Any]]) -> None:
    """Prints a table of operators for each network."""
    for network in operators:
        slower = network["slower"]
        rows = [
            (
                name,
                str(found["count"]),
                ", ".join(f"{kind} {count}" for kind, count in found["dtypes"].items()),
                f"{slower[name]:.1f} times as long as float32" if name in slower else "",
            )
            for name, found in network["ops"].items()
        ]
        render.line()
        title = f"Operators to come: {network['stage']}, {network['model']}"
        render.table(["operator", "count", "types", "slower in INT8"], rows, title=title, right=["count"])


def _rate(rate: float | str) -> str:
    return rate if isinstance(rate, str) else f"{rate:.3g}"
