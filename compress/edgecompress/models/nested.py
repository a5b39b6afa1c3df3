"""Tensors by name in what `torch.save` wrote: mappings in mappings, which in a stranger's file may hold each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgecompress.errors import ModelError
from edgecompress.models.tensors import usable
from edgecompress.models.weight_files import State

#: How deep sets of weights are looked for.
DEEPEST = 6
#: How many mappings and entries of lists are looked at: optimizers have a mapping for each parameter.
MOST_MAPPINGS, MOST_ENTRIES = 100_000, 10_000_000


def states_in(content: Any, path: Path) -> dict[str, State]:
    """Returns every mapping that has tensors by name, by its dotted place, the outermost first.

    Raises:
        ModelError: There is no end to them.
    """
    found: dict[str, State] = {}
    waiting, seen = [("", content, 0)], 0
    while waiting:
        key, node, depth = waiting.pop()
        if not isinstance(node, Mapping) or depth > DEEPEST:
            continue
        named = {name: one for name, one in node.items() if isinstance(name, str)}
        tensors = {name: usable(one) for name, one in named.items() if isinstance(one, torch.Tensor)}
        if tensors:
            found[key] = tensors
        inside = [(name, one) for name, one in named.items() if isinstance(one, Mapping)]
        seen += len(inside)
        if seen > MOST_MAPPINGS:
            raise ModelError(
                f"weights {path}: more than {MOST_MAPPINGS:,} mappings within one another, as no training program "
                "writes them. Save the state dict alone: `torch.save(model.state_dict(), 'weights.pt')`."
            )
        waiting += [(f"{key}.{name}" if key else name, one, depth + 1) for name, one in reversed(inside)]
    return found


def holds_tensors(content: Any) -> bool:
    """Returns whether a tensor that is more than a number lies in mappings and lists, as far as they are looked at."""
    waiting, seen = [(content, 0)], 0
    while waiting and seen < MOST_ENTRIES:
        node, depth = waiting.pop()
        if isinstance(node, torch.Tensor):
            if node.is_nested or node.ndim > 0:
                return True
        elif isinstance(node, (Mapping, list, tuple)) and depth <= DEEPEST:
            seen += len(node)
            inner = node.values() if isinstance(node, Mapping) else node
            waiting += [(one, depth + 1) for one in inner if isinstance(one, (torch.Tensor, Mapping, list, tuple))]
    return False
