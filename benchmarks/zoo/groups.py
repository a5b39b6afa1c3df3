"""The zoo's groups, by name."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.zoo.entry import Entry
from benchmarks.zoo.hf import hugging_face
from benchmarks.zoo.idioms.program import idioms
from benchmarks.zoo.libraries import timm_models, torchvision_models

GROUPS: dict[str, Callable[[], list[Entry]]] = {
    "idioms": idioms,
    "torchvision": torchvision_models,
    "hf": hugging_face,
    "timm": timm_models,
}
