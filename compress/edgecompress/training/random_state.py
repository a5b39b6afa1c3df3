"""All random states that training may draw from: torch's, and NumPy's and Python's, which models of users may use."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

#: NumPy's global generator takes seeds of 32 bits.
SEED_BITS = 32


def seed_all(seed: int) -> None:
    """Seeds torch's, NumPy's and Python's global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**SEED_BITS)  # noqa: NPY002 - the global one is what a model's code would use
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """Returns all states as numbers, lists and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, internal, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), next_gauss],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Takes what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
