"""Structured pruning of 30 models to four ratios: does it reach them, and do the pruned models come back from disk?

    python -m benchmarks.pruning.pruning_sweep  # finished rows are skipped; one after the other, in one process
    python -m benchmarks.pruning.pruning_sweep --summary  # the docs' tables

25 models of torchvision and five plain modules, and apart from these ten of timm's mobile families at ratio 0.5. Random
weights, ten classes, the smallest input that suits the model in training too (auxiliary heads among it). Parameters are
counted in the file that was written, multiply-accumulates by the hooks below, neither with the product's own counter.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import math
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.pruning.sweep_modules import MODULES
from benchmarks.table import RESULTS, Table
from edgecompress.errors import ModelError
from edgecompress.models.attention import HeadAttention
from edgecompress.models.count import count
from edgecompress.models.weights import save_weights
from edgecompress.models.window_attention import WindowAttention
from edgecompress.pruning.architecture import architecture_of
from edgecompress.pruning.loading import load_pruned
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.sources.torchvision_import import import_torchvision

CLASSES = 10
#: torchvision's models and the input's size.
TORCHVISION = {
    "alexnet": 96, "vgg11_bn": 64, "resnet18": 64, "resnet50": 64, "resnext50_32x4d": 64, "wide_resnet50_2": 64,
    "densenet121": 64, "densenet169": 64, "googlenet": 64, "inception_v3": 299, "squeezenet1_1": 64,
    "mobilenet_v2": 64, "mobilenet_v3_small": 64, "mobilenet_v3_large": 64, "mnasnet0_5": 64,
    "shufflenet_v2_x0_5": 64, "shufflenet_v2_x1_0": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "regnet_y_400mf": 64, "regnet_x_400mf": 64, "convnext_tiny": 64, "vit_b_16": 64, "swin_t": 64, "maxvit_t": 224,
}  # fmt: skip
TIMM = (
    "mobilenetv3_small_100", "mobilenetv4_conv_small", "efficientnet_lite0", "repvgg_a0", "ghostnet_100",
    "mobileone_s0", "fbnetc_100", "edgenext_xx_small", "tinynet_a", "lcnet_050",
)  # fmt: skip
RATIOS = (0.1, 0.3, 0.5, 0.7)
TOLERANCE = 0.05
COLUMNS = (
    "asked",
    "removed_macs",
    "removed_params",
    "reached",
    "explanation",
    "whole",
    "forward_backward",
    "counts_equal",
    "comes_back_max_difference",
    "seconds",
)


def size_of(name: str) -> int:
    """Returns the edge of a case's pictures."""
    return TORCHVISION.get(name, 32 if name in MODULES else 64)


def build(name: str, seed: int) -> nn.Module:
    """Returns a case's model with random weights."""
    torch.manual_seed(seed)
    if name in MODULES:
        return MODULES[name]()
    if name.startswith("timm/"):
        import_torchvision()  # timm imports it, which fails beside a CPU-only torch
        import timm

        model: nn.Module = timm.create_model(name.removeprefix("timm/"), num_classes=CLASSES)
        return model
    more: dict[str, Any] = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if name == "vit_b_16":
        more["image_size"] = size_of(name)
    built: nn.Module = getattr(import_torchvision().models, name)(weights=None, num_classes=CLASSES, **more)
    return built


def macs_of(model: nn.Module, example: torch.Tensor) -> int:
    """Returns multiply-accumulates for one sample: of layers from their shapes, of attention from its positions."""
    total = 0

    def layer(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = module.get_parameter("weight")
        total += (inputs[0] if getattr(module, "transposed", False) else output).numel() * weight[0].numel()

    def attention(module: nn.Module, inputs: tuple[torch.Tensor, ...], _output: object) -> None:
        nonlocal total
        if isinstance(module, nn.MultiheadAttention):  # its projections do not run as layers
            batch, length, width = inputs[0].shape
            total += 4 * batch * length * width * width + 2 * batch * length * length * width
        elif isinstance(module, HeadAttention):
            batch, length, _ = inputs[0].shape
            total += 2 * batch * length * length * module.num_heads * module.head_dim
        else:
            total += window_macs(module, inputs[0])

    hooks = []
    for module in model.modules():
        kind = type(module).__name__
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            hooks.append(module.register_forward_hook(layer))
        elif isinstance(module, nn.MultiheadAttention | HeadAttention | WindowAttention) or kind in WINDOWED:
            hooks.append(module.register_forward_hook(attention))
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            model.eval()(example[:1])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
    return total


#: Attention in windows or with functional projections, by class name.
WINDOWED = ("ShiftedWindowAttention", "RelativePositionalMultiHeadAttention", "CrossCovarianceAttn")


def window_macs(module: Any, x: torch.Tensor) -> int:
    """Returns what attention in windows multiplies beside its layers, and in them where they run as functions."""
    kind = type(module).__name__
    if kind == "RelativePositionalMultiHeadAttention":  # (batch, groups, positions, width)
        batch, groups, positions, _ = x.shape
        return 2 * batch * groups * positions * positions * module.n_heads * module.head_dim
    if kind == "CrossCovarianceAttn":  # channels attend to channels: (batch, positions, width)
        batch, positions, width = x.shape
        inner = module.qkv.out_features // 3
        return 2 * batch * positions * inner * (inner // module.num_heads)
    batch, height, width, _ = x.shape
    rows, columns = module.window_size
    padded = math.ceil(height / rows) * rows * math.ceil(width / columns) * columns
    inner = module.qkv.out_features // 3
    products = 2 * batch * padded * rows * columns * inner
    if isinstance(module, WindowAttention):  # its projections are layers that run
        return products
    return products + batch * padded * (module.qkv.weight.numel() + module.proj.weight.numel())


def outputs(result: Any) -> torch.Tensor:
    """Returns the logits of a model, which some wrap in training mode."""
    return result if isinstance(result, torch.Tensor) else result[0]


def measured(name: str, ratio: float, seed: int) -> dict[str, Any]:
    """Returns the row of one model pruned to one ratio."""
    started = time.monotonic()
    base = build(name, seed)
    size = size_of(name)
    example = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    model = copy.deepcopy(base)
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"asked": ratio}
    try:
        pruner = StructuredPruner(model, example, of="macs", ratio=ratio, steps=1, round_to=8)
        pruner.prune_step(1)
    except ModelError as error:
        return row | {"reached": False, "explanation": str(error), "seconds": round(time.monotonic() - started, 1)}
    report = pruner.report()
    reasons = Counter(report.whole.values())
    row["whole"] = "; ".join(f"{number} x {reason}" for reason, number in reasons.most_common(4))
    row |= {"removed_macs": round(report.removed_macs, 4), "removed_params": round(report.removed_params, 4)}
    row["reached"] = abs(report.removed_macs - ratio) <= TOLERANCE
    if not row["reached"]:
        row["explanation"] = f"at most {report.largest_share:.3f} of the MACs can go"
    row["forward_backward"] = trains(model, example)
    with tempfile.TemporaryDirectory() as folder:
        plan = architecture_of(base, model, kept=pruner.kept, origin={"model": name, "num_classes": CLASSES})
        Path(folder, "architecture.json").write_text(json.dumps(plan))
        save_weights(model, Path(folder, "model.safetensors"))
        written = load_file(Path(folder, "model.safetensors"))
        fresh = load_pruned(build(name, seed + 1), folder)
    parameters = {key for key, _ in model.named_parameters(remove_duplicate=True)}
    tensors = {written[key.replace("in_proj.", "in_proj_")].data_ptr(): key for key in parameters}
    assert len(tensors) == len(parameters)
    params = sum(written[key.replace("in_proj.", "in_proj_")].numel() for key in parameters)
    mine = macs_of(model, example)
    row["counts_equal"] = (params, mine) == (report.params[1], report.macs[1])
    if not row["counts_equal"]:
        row["explanation"] += f" counted {params} and {mine}, reported {report.params[1]} and {report.macs[1]}"
    with torch.no_grad():
        row["comes_back_max_difference"] = float((outputs(fresh(example)) - outputs(model.eval()(example))).abs().max())
    assert count(fresh, tuple(example.shape[1:])).params == params
    return row | {"seconds": round(time.monotonic() - started, 1)}


def trains(model: nn.Module, example: torch.Tensor) -> bool:
    """Says whether a model computes finite outputs and gradients for all its parameters in training mode."""
    before = copy.deepcopy(model.state_dict())
    result = model.train()(example)
    every = result if isinstance(result, tuple) else (result,)
    sum(part.square().mean() for part in every if part is not None).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    finite = all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients)
    model.zero_grad()
    model.load_state_dict(before)  # the statistics of batch norms
    return finite and bool(torch.isfinite(outputs(result)).all())


def summary(table: Table, names: list[str], ratios: tuple[float, ...]) -> None:
    """Prints one row per model: what was removed of the MACs at each ratio, and what its file says."""
    rows = {(row["case"], float(row["asked"])): row for row in table.rows()}
    print("| model | " + " | ".join(f"{ratio:.0%}" for ratio in ratios) + " | trains | counts | comes back | whole |")
    print("|" + " --- |" * (len(ratios) + 5))
    for name in names:
        found = [rows[key] for ratio in ratios if (key := (f"{name} {ratio}", ratio)) in rows]
        if len(found) != len(ratios):
            continue
        cells = [f"{100 * float(row['removed_macs']):.1f}" if row["removed_macs"] else "refused" for row in found]
        cells = [cell if row["reached"] == "True" else f"**{cell}**" for cell, row in zip(cells, found, strict=True)]
        done = [row for row in found if row["removed_macs"]]
        states = [
            "yes" if all(row[column] == good for row in done) else "NO"
            for column, good in (("forward_backward", "True"), ("counts_equal", "True"))
        ]
        back = max((float(row["comes_back_max_difference"]) for row in done), default=math.nan)
        whole = next((row["whole"] for row in reversed(found) if row["whole"]), "")
        print(f"| {name} | " + " | ".join([*cells, *states, f"{back:g}", whole]) + " |")


def main() -> None:
    """Prunes what is missing, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torch's and torchvision's own code
    table = Table(RESULTS / "pruning_sweep.csv", COLUMNS)
    thirty, mobile = [*MODULES, *TORCHVISION], [f"timm/{name}" for name in TIMM]
    cases = [(name, ratio) for name in thirty for ratio in RATIOS] + [(name, 0.5) for name in mobile]
    for name, ratio in [] if options.summary else cases:
        if table.done(f"{name} {ratio}", 0) or (options.models and name not in options.models):
            continue
        table.append(f"{name} {ratio}", 0, **measured(name, ratio, 0))
        gc.collect()
        print(table.rows()[-1], flush=True)
    summary(table, thirty, RATIOS)
    print()
    summary(table, mobile, (0.5,))


if __name__ == "__main__":
    main()
