"""Models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.models.resnet import R8, R9
from compress.recipe import ModelSpec


def published_normalization(spec: ModelSpec) -> Any:
    return None


def build_model(spec: ModelSpec, input_shape: Any, num_classes: int, *, trust: bool, base_dir: Path, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {"resnet8": R8, "resnet9": R9}[spec.model](input_shape, num_classes, **spec.args)
