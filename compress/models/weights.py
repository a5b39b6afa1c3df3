"""Weights on disk."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save
from torch import nn

from compress.artifact import write_bytes


def save_weights(model: nn.Module, path: Path) -> None:
    write_bytes(path, save({k: v.contiguous() for k, v in model.state_dict().items()}))


def load_weights(model: nn.Module, path: Path) -> None:
    model.load_state_dict(load_file(path))
