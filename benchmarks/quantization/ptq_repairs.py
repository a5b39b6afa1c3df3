"""What the ladder repairs: MobileNetV3 on Fashion-MNIST, and a network whose channels lie 1000:1 apart.

    python -m benchmarks.quantization.ptq_repairs  # after qat_parity.py, whose trained networks it takes from the store

The rescaled network is a trained ds-cnn: batch norms are multiplied channel by channel and the next layer divided by
the same numbers, so that it computes what it did, in float32. Data as in qat_parity.py.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.quantization.qat_parity import BATCH, recipe_of
from benchmarks.table import RESULTS, Table
from edgecompress.context import Context
from edgecompress.pipeline.plan import make_plan
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.base import Workbench
from edgecompress.store.store import Store

COLUMNS = (
    "exit_code", "float_accuracy", "int8_accuracy", "lost_points", "rungs", "wide_layers", "size_bytes", "minutes",
)  # fmt: skip
V3 = "torchvision/mobilenet_v3_small"
#: Case -> model, whether it is rescaled, the quantize block.
CASES: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "mobilenet_v3_small plain": (V3, False, {"mode": "ptq"}),
    "mobilenet_v3_small ladder": (V3, False, {"mode": "ptq", "max_drop_points": 0.3, "allow": ["int16"]}),
    # Whatever plain PTQ loses on validation is too much here, so that the ladder climbs.
    "mobilenet_v3_small ladder, nothing lost": (V3, False, {"mode": "ptq", "max_drop_points": 0.0}),
    "mobilenet_v3_small qat": (V3, False, {"mode": "qat", "train": {"epochs": 2, **BATCH}}),
    "ds-cnn 1000:1 plain": ("ds-cnn", True, {"mode": "ptq"}),
    "ds-cnn 1000:1 ladder": ("ds-cnn", True, {"mode": "ptq", "max_drop_points": 0.3}),
}
#: Channels are multiplied by 10^-1.5 to 10^1.5.
DECADES = 1.5


def rescale(model: nn.Module, seed: int) -> int:
    """Multiplies a chain's batch norms channel by channel and divides the next layer; returns how many were changed."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    generator = torch.Generator().manual_seed(seed)
    changed = 0
    for norm, following in itertools.pairwise(layers):
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(following, nn.Conv2d):
            continue
        channels = norm.num_features
        factor = torch.logspace(-DECADES, DECADES, channels)[torch.randperm(channels, generator=generator)]
        with torch.no_grad():
            norm.weight.mul_(factor)
            norm.bias.mul_(factor)
            depthwise = following.groups == channels
            following.weight.div_(factor.reshape(-1, 1, 1, 1) if depthwise else factor.reshape(1, -1, 1, 1))
        changed += 1
    return changed


def rescaled_weights(recipe: Recipe, store: Store, folder: Path) -> Path:
    """Writes the weights of the recipe's trained teacher, rescaled, and returns their file."""
    run_pipeline(recipe, output=folder, store=store, until="teacher")
    steps = make_plan(recipe, store, until="teacher").steps
    bench = Workbench(
        recipe, Context(recipe.seed), store, {step.stage: step.result for step in steps if step.result is not None}
    )
    model = bench.load("teacher").eval()
    shape = bench.dataset.input_shape
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        assert rescale(model, seed=0) > 0
        assert torch.allclose(model(x), before, atol=1e-3), "rescaling changed what the network computes"
    path = (folder / "rescaled.safetensors").resolve()
    save_file(model.state_dict(), path)
    return path


def run_case(case: str, seed: int, store: Store) -> dict[str, Any]:
    """Runs one recipe and returns its row."""
    model, rescaled, quantize = CASES[case]
    recipe = recipe_of(model, "dense", seed, None)
    folder = Path("runs/repairs") / f"{case.replace(' ', '-').replace(':', '-')}-{seed}"
    content = recipe.model_dump(mode="json", exclude={"quantize"})
    if rescaled:
        weights = str(rescaled_weights(recipe, store, folder))
        content["teacher"] = {"model": model, "args": content["teacher"]["args"], "weights": weights, "train": None}
    recipe = Recipe.model_validate({**content, "quantize": quantize})
    outcome = run_pipeline(recipe, output=folder, store=store)
    report = outcome.report
    assert report is not None
    models = {row["key"]: row for row in report["models"]}
    before, after = models["teacher"]["accuracy"], models["quantized"]["accuracy"]
    found = report["quantization"]
    return {
        "exit_code": int(outcome.exit_code),
        "float_accuracy": round(before, 4),
        "int8_accuracy": round(after, 4),
        "lost_points": round(before - after, 4),
        "rungs": " ".join(f"{rung['name']}:{rung['drop_points']:.2f}" for rung in found.get("rungs", [])),
        "wide_layers": " ".join(found.get("wide_layers", [])),
        "size_bytes": models["quantized"]["flatbuffer"]["size_bytes"],
        "minutes": round(sum(stage["seconds"] for stage in report["stages"]) / 60, 1),
    }


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    options = parser.parse_args()
    table = Table(RESULTS / "ptq_repairs.csv", COLUMNS)
    for seed in options.seeds:
        for case in options.cases:
            if not table.done(case, seed):
                table.append(case, seed, **run_case(case, seed, Store(options.store)))
                print(table.rows()[-1], flush=True)
    names = COLUMNS[1:]
    table.show("case", names)


if __name__ == "__main__":
    main()
