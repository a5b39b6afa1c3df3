"""The twin: a torch module that computes what an INT8 flatbuffer computes, with fake quantization.

It is built from the flatbuffer itself (the operators in the order and with the fusions it has), so a fake quantizer
stands exactly where the INT8 graph quantizes: at the input, after every fused operator, on every weight. Weights stay
float parameters, so the same object calibrates (PTQ), trains (QAT), writes its scales and weights back into the
flatbuffer, and is the reference that the shipped flatbuffer is verified against.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.batches import (
    FAILURES,
    Way,
    broadcast_alike,
    compute,
    compute_each,
    find_way,
    run_batch,
)
from edgecompress.quantization.graph.exchange import find_biases, find_dynamic, load_constants
from edgecompress.quantization.graph.foreign import with_foreign
from edgecompress.quantization.graph.graph import Graph, Node, last_uses, read_graph
from edgecompress.quantization.graph.ops import COMPARING, narrow_stride
from edgecompress.quantization.grids import ranges as limits
from edgecompress.quantization.grids.codebooks import codebooks_as_json, restore_codebooks
from edgecompress.quantization.grids.fake import (
    MASK_MARGIN,
    fake_constant,
    fake_dynamic,
    is_infinite,
    without_infinities,
)
from edgecompress.quantization.grids.learned import LearnedScales
from edgecompress.quantization.grids.portable import find_portable
from edgecompress.quantization.grids.ranges import INT8, RangeGroup, ranges_as_json, restore_ranges
from edgecompress.quantization.grids.tying import tied_groups
from edgecompress.quantization.grids.weight_grids import WeightGrids
from edgecompress.quantization.twin.integer_sums import integer_sums, is_in_integers
from edgecompress.quantization.twin.kernels import KERNELS, RARE, as_the_kernel, compared, ends
from edgecompress.quantization.twin.writing import quantized_constants, write_into
from edgecompress.tflite.format.tidy import BEYOND
from edgecompress.training.layout import MARK, Layout


class Twin(WeightGrids):
    """A fake-quantized torch model of an INT8 flatbuffer.

    The forward pass takes the network's own input (N, C, H, W for pictures) or, with `flatbuffer_layout`, the
    flatbuffer's (N, H, W, C), and returns float32 outputs on the INT8 grid.

    Attributes:
        dynamic: Indices of nodes that quantize their inputs on the fly -> whether row by row.
        narrow_strides: Of its convolutions, those with which it may have to be trained by `safe_kernels`.
        last_use: Node's index -> activations that no later node reads.
        spared: Indices of nodes that are float all the same: neither their weights nor their outputs are quantized.
        alone: Number of the range group whose values are quantized in the float model too.
    """

    def __init__(
        self, quantized: schema.ModelT, floating: schema.ModelT, labels: list[str], *, portable: bool = False
    ) -> None:
        """Builds the twin.

        Args:
            quantized: The INT8 flatbuffer: structure, and scales to start from.
            floating: The float32 flatbuffer it was made from: the weights.
            labels: A unique layer name per operator of `quantized`.
            portable: Whether weights are to lie where all runtimes' kernels round alike.

        Raises:
            ModelError: The two flatbuffers do not belong together.
        """
        super().__init__()
        self.graph: Graph = with_foreign(read_graph(quantized, labels), quantized)
        self.biases = find_biases(self.graph)
        weights, self.constants = load_constants(self.graph, floating, self.biases)
        self.groups: list[RangeGroup] = tied_groups(self.graph, self.constants)
        self.group_of: dict[int, int] = {n: k for k, group in enumerate(self.groups) for n in group.tensors}
        self._observed: dict[int, int] = {n: k for k, group in enumerate(self.groups) for n in group.observed}
        self.quantizing = True
        self.spared: frozenset[int] = frozenset()
        self.alone: int | None = None
        self._recorder: Callable[[int, torch.Tensor], None] | None = None
        self._momentum: float | None = None
        self.learned: LearnedScales | None = None
        self._way: Way | None = None
        self.masks: dict[str, torch.Tensor] = {}
        self.codebooks: dict[int, torch.Tensor] = {}
        self.weights = nn.ParameterDict({str(n): nn.Parameter(values) for n, values in weights.items()})
        self._masks = any(is_infinite(one) for one in (*self.constants.values(), *weights.values()))
        self._margin = MASK_MARGIN if any(node.op in ("EXP", "SOFTMAX") for node in self.graph.nodes) else 0.0
        self.last_use = last_uses(self.graph)
        self.dynamic = find_dynamic(self.graph, self.group_of)
        self.narrow_strides = tuple(filter(None, map(narrow_stride, self.graph.nodes)))
        setattr(self, MARK, Layout.CHANNELS_LAST)
        self.portable = find_portable(self.graph, self.groups, self.group_of) if portable else {}

    # -- what the fake quantizers do ------------------------------------------------------------------------------

    def on_grid(self, n: int, x: torch.Tensor) -> torch.Tensor:
        """Returns the values of activation `n` on its INT8 grid."""
        k = self.group_of.get(n)
        if k is None:
            return x
        if n in self._observed:
            if self._recorder is not None:
                self._recorder(k, without_infinities(x.detach(), self._margin) if self._masks else x.detach())
            elif self._momentum is not None and self.training and n != self.graph.input and not self.groups[k].fixed:
                low, high = torch.aminmax(x.detach())
                self.groups[k].follow(float(low), float(high), self._momentum)
        if not self.quantizing and k != self.alone:
            return x
        if self.learned is not None and k in self.learned and self.training:
            return self.learned.fake(k, x)
        group = self.groups[k]
        return torch.fake_quantize_per_tensor_affine(x, group.scale, group.zero_point, group.qmin, group.qmax)

    def _argument(self, n: int, values: dict[int, torch.Tensor], device: torch.device) -> torch.Tensor:
        if n in values:
            return values[n]
        if str(n) in self.weights:
            return self.on_grid(n, self.weights[str(n)]) if n in self.group_of else self.fake_weight(n)
        constant = self.constants[n]
        grid = self.range_of(n) if self.quantizing else None
        if grid is not None and not (self.training and n in self.group_of):
            constant = fake_constant(constant, grid.scale, grid.zero_point, grid.dtype)
        elif n in self.group_of:
            constant = self.on_grid(n, constant.clamp(-BEYOND, BEYOND) if self.quantizing else constant)
        # Shapes and axes are read as numbers: they stay on the CPU.
        return constant.to(device) if constant.is_floating_point() else constant

    def run_node(
        self, node: Node, arguments: list[torch.Tensor], *, each: list[bool] | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Returns a node's outputs, fake-quantized, for given inputs (weights and constants included).

        Args:
            node: The operator.
            arguments: Its inputs.
            each: For each of them whether axis 0 counts samples, to be computed each by itself; None: none does.
        """
        with self._sparing(node):
            if self._on_grids() and not self.training and is_in_integers(self, node):
                return (integer_sums(self, node, arguments, each),)
        if self.quantizing and node.op in COMPARING and node.inputs[0] in self.group_of:
            arguments = [compared(x) if x.is_floating_point() else x for x in arguments]
        outputs = compute(node, arguments) if each is None else compute_each(node, arguments, each)
        with self._sparing(node):
            if (
                self.quantizing
                and node.op in KERNELS
                and (node.op not in RARE or (self._on_grids() and broadcast_alike(arguments, each)))
            ):
                ranges = list(filter(None, map(self.range_of, ends(node))))
                if len(ranges) == len(ends(node)) and all(group.dtype == INT8 for group in ranges):
                    outputs = (as_the_kernel(node, outputs[0], arguments, ranges),)
            return tuple(self.on_grid(n, x) for n, x in zip(node.outputs, outputs, strict=True))

    def _on_grids(self) -> bool:
        """Returns whether all inputs are on their grids and no gradients are needed: then integers serve as well.

        In training the difference, one value in 100,000 or less, is none.
        """
        return self.quantizing and not self.spared and not torch.is_grad_enabled()

    def arguments(self, node: Node, values: dict[int, torch.Tensor], device: torch.device) -> list[torch.Tensor]:
        """Returns a node's inputs in order: activations from `values`, weights fake-quantized, constants."""
        with self._sparing(node):
            found = [self._argument(n, values, device) for n in node.inputs if n >= 0]
            if node.index in self.dynamic and self.quantizing:
                found[0] = fake_dynamic(found[0], found[0].ndim - 1 if self.dynamic[node.index] else 1)
        return found

    def _sparing(self, node: Node) -> contextlib.AbstractContextManager[None]:
        return self.floating() if node.index in self.spared else contextlib.nullcontext()

    def forward(self, x: torch.Tensor, *, flatbuffer_layout: bool = False) -> torch.Tensor:
        """Returns the outputs, (N, classes), for (N, *input_shape)."""
        if x.ndim == 4 and not flatbuffer_layout:  # noqa: PLR2004 - NCHW
            x = x.permute(0, 2, 3, 1)
        if len(x) == 1:
            return self._run(x)
        try:
            return run_batch(self._run, x, self.way(x))
        except FAILURES:  # two samples fit an axis of length two by chance
            self._way = None
            return run_batch(self._run, x, self.way(x, len(x)))

    def way(self, x: torch.Tensor, tried: int = 2) -> Way:
        """Returns how a batch goes through the graph; `x` holds two samples or more, in the flatbuffer's layout."""
        if self._way is None:
            with torch.no_grad(), self.floating(), self._unobserved():
                self._way = find_way(self._run, x[:tried].detach())
        return self._way

    @contextlib.contextmanager
    def _unobserved(self) -> Iterator[None]:
        recorder, momentum = self._recorder, self._momentum
        self._recorder = self._momentum = None
        try:
            yield
        finally:
            self._recorder, self._momentum = recorder, momentum

    def _run(self, x: torch.Tensor, *, stacked: bool = False) -> torch.Tensor:
        with self.settled():
            values = {self.graph.input: self.on_grid(self.graph.input, x)}
            for node in self.graph.nodes:
                each = [n in values for n in node.inputs if n >= 0] if stacked else None
                outputs = self.run_node(node, self.arguments(node, values, x.device), each=each)
                values.update(zip(node.outputs, outputs, strict=True))
                for n in self.last_use.get(node.index, ()):
                    values.pop(n, None)
            return values[self.graph.output]

    # -- ranges ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def observe(self, batches: Iterable[torch.Tensor], recorder: Callable[[int, torch.Tensor], None]) -> None:
        """Runs the float model and shows `recorder` every new activation: the number of its group, and its values.

        Args:
            batches: Network inputs.
            recorder: Told of each activation of each batch.
        """
        self._recorder = recorder
        try:
            with self.floating():
                for batch in batches:
                    self(batch)
        finally:
            self._recorder = None

    def calibrate(self, batches: Iterable[torch.Tensor], input_range: tuple[float, float] | None = None) -> None:
        """Sets every activation range to the least and largest value seen in the float model.

        Args:
            batches: Network inputs.
            input_range: What the input can hold at all, where that is known; it replaces what was seen.

        Raises:
            ModelError: No sample was given, or a value was not finite.
        """
        seen = dict.fromkeys(self._observed.values(), (math.inf, -math.inf))

        def record(k: int, x: torch.Tensor) -> None:
            low, high = (float(v) for v in torch.aminmax(x))
            seen[k] = min(seen[k][0], low), max(seen[k][1], high)

        self.observe(batches, record)
        self.set_ranges(seen, input_range)

    def set_ranges(
        self, ranges: Mapping[int, tuple[float, float]], input_range: tuple[float, float] | None = None
    ) -> None:
        """Sets activation ranges.

        Args:
            ranges: Number of a range group -> its least and largest value.
            input_range: What the input can hold at all, where that is known; it replaces the one given.

        Raises:
            ModelError: A range is not finite: no sample was seen, or a value was not finite.
        """
        for k, (low, high) in ranges.items():
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ModelError(
                    f"calibration saw no finite value at {self.groups[k].name(self.graph)}: "
                    "are the weights and the calibration samples sound?"
                )
            self.groups[k].set_range(low, high)
        if input_range is not None and self.graph.input in self.group_of:
            self.groups[self.group_of[self.graph.input]].set_range(*input_range)
        limits.cut_logarithms(self.graph, self.groups, self.group_of)
        limits.check_comparisons(self.graph, self.groups, self.group_of)
        with self.settled():
            limits.floor_scales(self.graph, self.groups, self.group_of, self._weight_step)

    def _weight_step(self, n: int) -> float | None:
        return float(self.weight_scale(n).max()) if str(n) in self.weights and n not in self.biases else None

    @contextlib.contextmanager
    def floating(self) -> Iterator[None]:
        """Turns fake quantization off while inside: the twin is the float model."""
        before, self.quantizing = self.quantizing, False
        try:
            yield
        finally:
            self.quantizing = before

    def track_ranges(self, momentum: float | None) -> None:
        """Lets activation ranges follow the batches (moving average with this momentum); None freezes them."""
        self._momentum = momentum

    def learn_scales(self) -> LearnedScales:
        """Makes the activations' scales parameters, the input's aside; `learned = None` ends it."""
        kept = {self.group_of[self.graph.input]} if self.graph.input in self.group_of else set()
        device = next((weight.device for weight in self.weights.values()), torch.device("cpu"))
        self.learned = LearnedScales(self.groups, kept, device)
        return self.learned

    # -- the flatbuffer --------------------------------------------------------------------------------------------

    def quantized_constants(self) -> dict[int, tuple[NDArray[Any], NDArray[np.float32]]]:
        """Returns, for every weight and bias, its integers and their scales."""
        return quantized_constants(self)

    def write_into(self, model: schema.ModelT) -> None:
        """Writes the twin's ranges, weights and biases into the flatbuffer it was built from.

        Raises:
            ModelError: `model` is not that flatbuffer.
        """
        write_into(self, model)

    def ranges(self) -> list[dict[str, Any]]:
        """Returns activation ranges and codebooks as plain JSON values, one per group or weight, named by tensor."""
        return ranges_as_json(self.graph, self.groups) + codebooks_as_json(self.graph, self.codebooks)

    def load_ranges(self, ranges: list[dict[str, Any]]) -> None:
        """Takes what `ranges` gave, matched by tensor name.

        Raises:
            ModelError: They are of another flatbuffer.
        """
        restore_ranges(self.graph, self.groups, ranges)
        self.codebooks = restore_codebooks(self.graph, ranges)
