"""Attention heads as prunable roots: which layers a head has parts of, tried out on copies, and its removal.

An attention layer is a module with a whole number of heads as an attribute, some projections into all heads (queries,
keys and values, one by one or packed) and one out of them. Names and layouts differ, so every reading of a module is
tried: without some heads it must give what it gives with these heads' projections at zero.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from edgecompress.models.attention import kept_reason
from edgecompress.pruning.coupling.channels import Coupled, Root, Share
from edgecompress.pruning.slices import keep_places

#: Attributes that count heads.
HEAD_COUNTS = (
    "num_heads", "n_heads", "n_head", "nhead", "heads", "nheads", "num_attention_heads", "num_key_value_heads",
    "num_kv_heads", "n_kv_heads",
)  # fmt: skip
#: Attributes that hold the width of all heads together, whatever the embedding's width is.
INNER_WIDTHS = ("attn_dim", "all_head_size", "inner_dim", "attention_dim", "qkv_dim")
#: Projections into the heads that there must be, counted in widths of all heads: queries, keys, values.
PROJECTIONS = 3
#: A projection reads more features than this; networks that make biases of positions read a place's coordinates.
SMALLEST_INPUT = 4
#: Largest difference between a layer without some heads and one where they are zero, relative to its outputs' size.
TOLERANCE = 1e-3
#: What a module raises that was cut in the wrong places.
FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)


@dataclass(frozen=True)
class Part:
    """A tensor side that holds something of each head.

    Attributes:
        path: The module that has it, from the scope on.
        axis: For a linear layer `out` or `in`; for a parameter or buffer its name, a colon and the axis.
        channels: Per head, the numbers along that side.
    """

    path: str
    axis: str
    channels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Attention:
    """One attention layer and how it is cut.

    Attributes:
        name: Path of the module that counts the heads.
        scope: Path of the module that holds all parts: the same one, or the one around it.
        heads: Its heads.
        counts: Attributes of it that count heads.
        widths: Attributes of it that shrink with the heads.
        parts: Linear layers first: projections into the heads, then the one out of them; then tables.
    """

    name: str
    scope: str
    heads: int
    counts: tuple[str, ...]
    widths: tuple[str, ...]
    parts: tuple[Part, ...]

    def root(self, model: nn.Module) -> Root:
        """Returns what the search for widths needs to know: one channel per head."""
        coupled = []
        params = 0
        for part in self.parts:
            path = ".".join(filter(None, (self.scope, part.path)))
            module = model.get_submodule(path)
            channels = tuple(itertools.chain.from_iterable(part.channels))
            roots = tuple(head for head, some in enumerate(part.channels) for _ in some)
            if part.axis in ("out", "in"):
                coupled.append(Coupled(path, module, "out" if part.axis == "out" else "in", channels, roots))
            else:
                tensor = getattr(module, part.axis.partition(":")[0])
                params += tensor.numel() if isinstance(tensor, nn.Parameter) else 0
        # The products between positions, and tables.
        places = tuple(range(self.heads))
        coupled.append(Coupled(self.name, Share(self.heads, params), "out", places, places))
        return Root(self.name, self.heads, 1, tuple(coupled), kind="heads", cutter=self.cut)

    def projections(self, model: nn.Module) -> list[nn.Module]:
        """Returns the linear layers into the heads; their widths are the heads' affair."""
        scope = model.get_submodule(self.scope)
        return [scope.get_submodule(part.path) for part in self.parts if part.axis == "out"]

    def cut(self, model: nn.Module, heads: Iterable[int]) -> dict[tuple[str, str], list[int]]:
        """Removes heads from a model, in place, and returns the places that stay of each (path, axis) of a part."""
        scope = model.get_submodule(self.scope)
        gone = set(heads)
        stay: dict[tuple[str, str], list[int]] = {}
        for part in self.parts:
            keep = [c for head, some in enumerate(part.channels) if head not in gone for c in some]
            # Packed parts lie in another order than the heads.
            keep_places(scope.get_submodule(part.path), part.axis, sorted(keep))
            stay[".".join(filter(None, (self.scope, part.path))), part.axis] = sorted(keep)
        owner = model.get_submodule(self.name)
        left = self.heads - len(gone)
        for name in self.counts:
            setattr(owner, name, left)
        for name in self.widths:
            setattr(owner, name, getattr(owner, name) * left // self.heads)
        return stay


def find_attention(model: nn.Module, example: torch.Tensor) -> tuple[list[Attention], dict[str, str]]:
    """Returns the attention layers whose heads can go; path of each other attention layer -> why they cannot.

    Args:
        model: In evaluation mode; runs once.
        example: A batch it takes.
    """
    modules = dict(model.named_modules())
    owners = {path: module for path, module in modules.items() if _counts(module)}
    inner = {path for path in owners if not any(other != path and _within(other, path) for other in owners)}
    scopes = inner | {path.rpartition(".")[0] for path in inner if path}
    calls = _calls(model, example, scopes)
    found: list[Attention] = []
    whole: dict[str, str] = {}
    for path in sorted(inner, key=list(modules).index):
        owner = modules[path]
        counted = _counts(owner)
        heads = max(counted.values())
        if isinstance(owner, nn.MultiheadAttention):
            whole[path] = f"its heads stay: {kept_reason(owner) or 'it is the whole model'}"
        elif not any(isinstance(module, nn.Linear) for module in owner.modules()):
            continue
        elif heads > 1:
            attention = _read(modules, path, calls)
            if attention is None:
                whole[path] = "no way was found to take heads out of it that leaves the others as they are"
            else:
                found.append(attention)
    return found, whole


def heads_of(module: nn.Module) -> int:
    """Returns how many heads a module counts, 0 where it counts none."""
    return max(_counts(module).values(), default=0)


@dataclass
class _Call:
    """What the first call of a module was given, and the linear layers that ran within, in their order."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    linears: list[nn.Linear]


def _calls(model: nn.Module, example: torch.Tensor, scopes: Iterable[str]) -> dict[str, _Call]:
    """Returns the first call of each module in `scopes`, seen while the model runs."""
    calls: dict[str, _Call] = {}

    def entered(path: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.setdefault(path, _Call(args, kwargs, []))

    def ran(inside: Sequence[str], module: nn.Linear, _args: object, _output: object) -> None:
        for path in inside:
            if path in calls and module not in calls[path].linears:
                calls[path].linears.append(module)

    handles = []
    try:
        for path, module in model.named_modules():
            if path in scopes:
                handles.append(module.register_forward_pre_hook(partial(entered, path), with_kwargs=True))
            if isinstance(module, nn.Linear):
                around = [scope for scope in scopes if _within(path, scope)]
                handles.append(module.register_forward_hook(partial(ran, around)))
        with torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _read(modules: Mapping[str, nn.Module], path: str, calls: Mapping[str, _Call]) -> Attention | None:
    """Returns the first reading of an attention layer that passes its trial, None where none does."""
    scopes = [path] if not path else [path, path.rpartition(".")[0]]
    for scope in scopes:
        call = calls.get(scope)
        if call is None:
            continue
        names = {module: name for name, module in modules[scope].named_modules()}
        for reading in _readings(modules, path, scope, [(names[linear], linear) for linear in call.linears]):
            if _passes(modules[scope], reading, call):
                return reading
    return None


def _readings(
    modules: Mapping[str, nn.Module], path: str, scope: str, linears: Sequence[tuple[str, nn.Linear]]
) -> Iterator[Attention]:
    """Yields what an attention layer may be, likeliest first."""
    owner = modules[path]
    counted = _counts(owner)
    heads = max(counted.values())
    for place in reversed(range(1, len(linears))):
        name, last = linears[place]
        inner = last.in_features
        into = [(each, linear.out_features // inner) for each, linear in linears[:place] if _projects(linear, inner)]
        if inner % heads or sum(parts for _, parts in into) < PROJECTIONS:
            continue
        size = inner // heads
        out = Part(name, "in", _blocks(1, heads, size))
        taken = [each for each, _ in [*into, (name, 1)]]
        tables = tuple(_tables(modules[scope], heads, inner, taken, buffers=True))
        parameters = tuple(_tables(modules[scope], heads, inner, taken, buffers=False))
        named = tuple(attribute for attribute in INNER_WIDTHS if getattr(owner, attribute, None) == inner)
        alike = tuple(
            attribute for attribute, value in vars(owner).items() if type(value) is int and value == inner != heads
        )
        layouts = (True, False) if any(parts > 1 for _, parts in into) else (True,)
        options = itertools.product(layouts, dict.fromkeys((named, alike)), dict.fromkeys((tables, parameters)))
        for packed, widths, more in options:
            projections = tuple(
                Part(each, "out", _blocks(parts, heads, size) if packed else _blocks(1, heads, parts * size))
                for each, parts in into
            )
            yield Attention(path, scope, heads, tuple(counted), widths, (*projections, out, *more))


def _projects(linear: nn.Linear, inner: int) -> bool:
    """Says whether a layer may make queries, keys, values or all three; small networks for positions read less."""
    return linear.out_features in (inner, 2 * inner, 3 * inner) and linear.in_features > SMALLEST_INPUT


def _blocks(parts: int, heads: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Returns the places of each head in `parts` equal parts, in each of which the heads follow one another."""
    return tuple(
        tuple(part * heads * size + head * size + place for part in range(parts) for place in range(size))
        for head in range(heads)
    )


def _tables(scope: nn.Module, heads: int, inner: int, taken: Sequence[str], *, buffers: bool) -> Iterator[Part]:
    """Yields what else has a side with one place per head: tables of positions, scales, small networks' last layers."""
    for path, module in scope.named_modules():
        if path in taken or "Norm" in type(module).__name__:
            continue
        if isinstance(module, nn.Linear):
            if module.out_features == heads != module.in_features:
                yield Part(path, "out", _blocks(1, heads, 1))
            continue
        tensors: dict[str, torch.Tensor] = dict(module.named_parameters(recurse=False))
        if buffers:
            tensors |= dict(module.named_buffers(recurse=False))
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            sides = list(tensor.shape)
            if sides.count(heads) == 1:
                yield Part(path, f"{name}:{sides.index(heads)}", _blocks(1, heads, 1))
            elif sides.count(inner) == 1 and len(sides) == 1:
                yield Part(path, f"{name}:0", _blocks(1, heads, inner // heads))


@torch.no_grad()
def _passes(scope: nn.Module, reading: Attention, call: _Call) -> bool:
    """Says whether a layer without some heads gives what it gives with these at zero, with weights drawn at random."""
    generator = torch.Generator().manual_seed(0)
    silent = copy.deepcopy(scope).eval()
    for parameter in silent.parameters():
        if parameter.is_floating_point():
            drawn = torch.randn(parameter.shape, generator=generator) / max(parameter.shape[-1:] or (1,)) ** 0.5
            parameter.copy_(drawn)
    args, kwargs = _drawn((call.args, call.kwargs), generator, {})
    gone = list(range(0, reading.heads - 1, 2))
    cut = copy.deepcopy(silent)
    local = Attention(
        _relative(reading.name, reading.scope), "", reading.heads, reading.counts, reading.widths, reading.parts
    )
    for part in reading.parts:
        if part.axis in ("out", "in"):
            linear = silent.get_submodule(part.path)
            places = [c for head in gone for c in part.channels[head]]
            assert isinstance(linear, nn.Linear)  # noqa: S101 - parts with these axes are linear layers
            linear.weight[places if part.axis == "out" else (slice(None), places)] = 0.0
            if part.axis == "out" and linear.bias is not None:
                linear.bias[places] = 0.0
    try:
        local.cut(cut, gone)
        expected, actual = _first(silent(*args, **kwargs)), _first(cut(*args, **kwargs))
    except FAILURES:
        return False
    if expected is None or actual is None or expected.shape != actual.shape:
        return False
    size = float(expected.abs().max())
    return size > 0 and float((expected - actual).abs().max()) <= TOLERANCE * size


def _drawn(value: Any, generator: torch.Generator, known: dict[int, Any]) -> Any:
    """Returns arguments with random numbers in the place of all that are not whole; what was one object stays one."""
    if isinstance(value, torch.Tensor):
        # A mask of -inf stays what it is.
        if value.is_floating_point() and bool(torch.isfinite(value).all()) and id(value) not in known:
            known[id(value)] = torch.randn(value.shape, generator=generator).to(value)
        return known.get(id(value), value)
    if isinstance(value, dict):
        return {name: _drawn(each, generator, known) for name, each in value.items()}
    return type(value)(_drawn(each, generator, known) for each in value) if type(value) in (tuple, list) else value


def _counts(module: nn.Module) -> dict[str, int]:
    """Returns the attributes of a module that count heads."""
    own = {name: vars(module).get(name) for name in HEAD_COUNTS}
    numbers = {name: value for name, value in own.items() if type(value) is int}
    most = max(numbers.values(), default=0)
    return {name: value for name, value in numbers.items() if value == most}


def _within(path: str, scope: str) -> bool:
    return not scope or path == scope or path.startswith(f"{scope}.")


def _relative(path: str, scope: str) -> str:
    return path.removeprefix(scope).removeprefix(".")


def _first(output: Any) -> torch.Tensor | None:
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, torch.Tensor) else None
