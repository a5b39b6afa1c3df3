"""What a model may take of the memory, told before torch takes it: as it is built, and as a sample runs through it.

Sizes come from recipes and from configurations of strangers. Torch would ask the system for whatever they come to, and
the process would be killed for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from edgecompress.errors import ModelError
from edgecompress.machine import memory_bytes

MIB = 1024**2
#: The share of the memory that weights may take: as they are trained, gradients and two moments come besides.
WEIGHTS_SHARE = 1 / 6
#: The share that all answers of layers to one sample may take; as it learns, a network keeps those to a batch.
ANSWERS_SHARE = 1 / 4
#: Tensors that a model may be made of: the largest published ones have some thousands.
MOST_TENSORS = 50_000
#: How far a model may count, with what torch calls it.
MOST_COUNTED, COUNTING = 2**24, ("linspace", "arange", "randperm")
#: So many operations are looked at before they run; of later ones those whose inputs are large.
LOOKED_AT, LARGE = 20_000, 2**20


class Building(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is made inside, and ends it with an error where that is too much.

    Attributes:
        made: Bytes, up to now.
    """

    def __init__(self, name: str, most: int | None = None, why: str = "") -> None:
        """Takes the model's name, and bytes that may be made (default: a share of the memory) with the reason."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.name, self.made, self.tensors = name, 0, 0
        self.most = int(WEIGHTS_SHARE * memory_bytes()) if most is None else most
        self.why = why or f"a sixth of the {memory_bytes() / MIB:,.0f} MiB of memory here"

    def __torch_dispatch__(
        self, func: Any, _types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs an operation unless it would make too much."""
        count = _values_made(func, args)
        if count:
            self.tensors += 1
            self.made += count * _item_bytes(kwargs or {})
            if count > MOST_COUNTED and any(one in str(func) for one in COUNTING):  # the next step makes a list of them
                raise ModelError(
                    f"model {self.name} is too large: its layers count to {count:,}. Choose smaller sizes."
                )
            if self.made > self.most:
                raise ModelError(
                    f"model {self.name} is too large: its layers come to more than {self.most / MIB:,.0f} MiB "
                    f"({self.why}). Choose smaller sizes for it, or smaller samples."
                )
            if self.tensors > MOST_TENSORS:
                raise ModelError(
                    f"model {self.name} is too large: its layers come to more than {MOST_TENSORS:,} tensors. "
                    "Choose fewer layers."
                )
        return func(*args, **(kwargs or {}))


class Running(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the answers of all operations inside, and ends it with an error before one that would be too much."""

    def __init__(self, name: str, sample: str, remedy: str) -> None:
        """Takes the model's name, the shape of the sample and what can be changed, for the message."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.name, self.sample, self.remedy = name, sample, remedy
        self.answered, self.seen = 0, 0
        self.most = int(ANSWERS_SHARE * memory_bytes())
        self.fast = True

    def __enter__(self) -> Self:
        """Begins to add up; attention is run in steps, so that its scores are seen."""
        self.fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *arguments: object) -> None:
        """Ends it."""
        super().__exit__(*arguments)  # type: ignore[no-untyped-call]
        torch.backends.mha.set_fastpath_enabled(self.fast)

    def __torch_dispatch__(
        self, func: Any, _types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs an operation unless its answer would be too much."""
        self.seen += 1
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        largest = sorted((one.numel() for one in given), reverse=True)[:2]
        if self.seen <= LOOKED_AT or (largest and (largest[0] > LARGE or math.prod(largest) > LARGE**1.5)):
            self.answered += _answer_bytes(func, args, kwargs or {})
            if self.answered > self.most:
                raise ModelError(
                    f"model {self.name}: one sample of {self.sample} comes to more than {self.most / MIB:,.0f} MiB "
                    f"as it runs through it (a quarter of the memory here), by `{func}`. {self.remedy}, or choose "
                    "another model."
                )
        return func(*args, **(kwargs or {}))


def _values_made(func: Any, args: tuple[Any, ...]) -> int:
    """Returns how many values an operation makes from nothing; 0 where it works on tensors."""
    parameters = func._schema.arguments  # noqa: SLF001 - what torch calls its arguments
    if any(isinstance(one, torch.Tensor) for one in args) or not args:
        return 0
    names = [one.name for one in parameters]
    if names[0] == "size" and isinstance(args[0], (list, tuple)):
        return math.prod(int(side) for side in args[0])
    if names[:2] == ["start", "end"] and "steps" in names:
        return int(args[names.index("steps")])
    if names[0] in ("start", "end") and "arange" in str(func):
        start, end, step = (0, args[0], 1) if len(args) == 1 else (*args[:2], args[2] if len(args) > 2 else 1)  # noqa: PLR2004
        return max(int(-((start - end) // step)), 0)
    if names[0] in ("n", "high", "low"):
        sizes = [one for one in args if isinstance(one, (list, tuple))]
        return math.prod(sizes[0]) if sizes else int(args[0]) ** (2 if "eye" in str(func) else 1)
    return 0


def _item_bytes(kwargs: Mapping[str, Any]) -> int:
    kind: torch.dtype = kwargs.get("dtype") or torch.get_default_dtype()
    return kind.itemsize


def _answer_bytes(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Returns the bytes that an operation's answer takes, found out without computing it; 0 where nobody can say."""

    def empty(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")

    if func.is_view or func._schema.is_mutable:  # noqa: SLF001
        return 0
    if "scaled_dot_product" in str(func):  # some kernels keep all scores, and some do not
        query, key = args[0], args[1]
        scores: int = math.prod(query.shape[:-1]) * key.shape[-2]
        return scores * 4
    if count := _values_made(func, args):
        return count * _item_bytes(kwargs)
    if torch.Tag.pointwise in func.tags and "dtype" not in kwargs:  # told at once, as most operations of networks are
        given = [one for one in args if isinstance(one, torch.Tensor)]
        shape = torch.broadcast_shapes(*(one.shape for one in given))  # type: ignore[no-untyped-call]
        return int(math.prod(shape)) * max((one.itemsize for one in given), default=0)
    if func is torch.ops.aten.native_batch_norm.default:
        return args[0].numel() * args[0].itemsize  # type: ignore[no-any-return]
    try:
        answer = func(*tree_map(empty, args), **tree_map(empty, dict(kwargs)))
    except Exception:  # noqa: BLE001 - operators without a shape of their own raise anything
        return 0
    return sum(int(one.numel() * one.itemsize) for one in tree_leaves(answer) if isinstance(one, torch.Tensor))
