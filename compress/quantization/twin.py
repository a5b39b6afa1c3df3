"""The twin: a torch module that computes what an INT8 flatbuffer computes, with fake quantization.

It is built from the flatbuffer itself (the operators in the order and with the fusions it has), so a fake quantizer
stands exactly where the INT8 graph quantizes: at the input, after every fused operator, on every weight. Weights stay
float parameters, so the same object calibrates (PTQ), trains (QAT), writes its scales and weights back into the
flatbuffer, and is the reference that the shipped flatbuffer is verified against.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import nn

from compress.errors import ModelError
from compress.quantization.graph import Graph, Node, TensorSpec, read_graph, tensor_values
from compress.quantization.ops import OPS, WEIGHTED
from compress.quantization.ranges import QMAX, QMIN, RangeGroup, find_groups

WEIGHT_QMAX = 127
#: An INT32 bias must leave room for the sum of products that is added to it.
BIAS_LIMIT = float(2**30)
#: Smallest weight scale: kernels turn scales into fixed-point multipliers, which underflow below this.
MIN_WEIGHT_SCALE = 1e-7


class Twin(nn.Module):
    """A fake-quantized torch model of an INT8 flatbuffer.

    The forward pass takes the network's own input (N, C, H, W for pictures) or, with `flatbuffer_layout`, the
    flatbuffer's (N, H, W, C), and returns float32 outputs on the INT8 grid.

    Attributes:
        graph: The flatbuffer's operators and tensors.
        groups: Activation ranges; each is shared by the tensors that carry one scale.
        quantizing: Whether values and weights are fake-quantized; off, the twin is the float model.
    """

    def __init__(self, quantized: schema.ModelT, floating: schema.ModelT, labels: list[str]) -> None:
        """Builds the twin.

        Args:
            quantized: The INT8 flatbuffer: structure, and scales to start from.
            floating: The float32 flatbuffer it was made from: the weights.
            labels: A unique layer name per operator of `quantized`.

        Raises:
            ModelError: An operator cannot be simulated, or the two flatbuffers do not belong together.
        """
        super().__init__()
        self.graph: Graph = read_graph(quantized, labels)
        unknown = sorted({f"{node.op} (layer {node.label})" for node in self.graph.nodes if node.op not in OPS})
        if unknown:
            raise ModelError(f"the twin cannot simulate: {', '.join(unknown)}")
        self.groups: list[RangeGroup] = find_groups(self.graph)
        self.group_of: dict[int, int] = {n: k for k, group in enumerate(self.groups) for n in group.tensors}
        self._observed: dict[int, int] = {n: k for k, group in enumerate(self.groups) for n in group.observed}
        self.quantizing = True
        self._seen: list[list[float]] | None = None
        self._momentum: float | None = None
        self._batchable: bool | None = None
        self.masks: dict[str, torch.Tensor] = {}
        self.weights = nn.ParameterDict()
        self.biases: dict[int, tuple[int, int]] = {}  # bias tensor -> (weight tensor, input tensor)
        self._constants: dict[int, torch.Tensor] = {}
        self._load_constants(floating)
        self._last_use = self._find_last_uses()

    def _load_constants(self, floating: schema.ModelT) -> None:
        weighted: dict[int, str] = {}
        for node in self.graph.nodes:
            if node.op in WEIGHTED and self.graph.tensors[node.inputs[1]].constant is not None:
                weighted[node.inputs[1]] = "weight"
                if len(node.inputs) > 2 and node.inputs[2] >= 0:  # noqa: PLR2004
                    weighted[node.inputs[2]] = "bias"
                    self.biases[node.inputs[2]] = (node.inputs[1], node.inputs[0])
        originals = {t.name.decode("utf-8", "replace"): t for t in floating.subgraphs[0].tensors}
        for n, tensor in enumerate(self.graph.tensors):
            if tensor.constant is None:
                continue
            if tensor.quantized or n in weighted:
                values = _float_values(floating, originals, tensor)
                if n in weighted:
                    self.weights[str(n)] = nn.Parameter(torch.from_numpy(values.copy()))
                else:
                    self._constants[n] = torch.from_numpy(values.copy())
            else:
                self._constants[n] = torch.from_numpy(tensor.constant.copy())

    def _find_last_uses(self) -> dict[int, list[int]]:
        last: dict[int, int] = {}
        for node in self.graph.nodes:
            for n in node.inputs:
                last[n] = node.index
        frees: dict[int, list[int]] = {}
        for n, index in last.items():
            if n >= 0 and self.graph.tensors[n].constant is None and n != self.graph.output:
                frees.setdefault(index, []).append(n)
        return frees

    # -- what the fake quantizers do ------------------------------------------------------------------------------

    def weight_scale(self, n: int) -> torch.Tensor:
        """Returns the scales of a weight tensor: largest magnitude per channel / 127 (symmetric, narrow range).

        A channel whose weights are all but zero would get a scale so small that its bias does not fit INT32 (older
        runtimes refuse such a file); its scale is raised until the bias fits.
        """
        weight = self.weights[str(n)].detach()
        spec = self.graph.tensors[n]
        if len(spec.scale) > 1:
            dims = [d for d in range(weight.ndim) if d != spec.axis]
            scale = weight.abs().amax(dim=dims) / WEIGHT_QMAX
        else:
            scale = weight.abs().amax().reshape(1) / WEIGHT_QMAX
        scale = scale.clamp_min(MIN_WEIGHT_SCALE)
        for bias, (owner, source) in self.biases.items():
            if owner == n and source in self.group_of:
                least = self.weights[str(bias)].detach().abs() / (self.groups[self.group_of[source]].scale * BIAS_LIMIT)
                scale = torch.maximum(scale, least if len(scale) > 1 else least.amax().reshape(1))
        return scale

    def _fake_weight(self, n: int) -> torch.Tensor:
        weight = self.weights[str(n)]
        spec = self.graph.tensors[n]
        if not self.quantizing or not spec.quantized or n in self.biases:
            return weight
        scale = self.weight_scale(n)
        if len(scale) > 1:
            zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
            return torch.fake_quantize_per_channel_affine(weight, scale, zero, spec.axis, -WEIGHT_QMAX, WEIGHT_QMAX)
        return torch.fake_quantize_per_tensor_affine(weight, float(scale[0]), 0, -WEIGHT_QMAX, WEIGHT_QMAX)

    def _fake_activation(self, n: int, x: torch.Tensor) -> torch.Tensor:
        k = self.group_of.get(n)
        if k is None:
            return x
        if n in self._observed and (self._seen is not None or (self._momentum is not None and self.training)):
            self._observe(k, x)
        if not self.quantizing:
            return x
        group = self.groups[k]
        return torch.fake_quantize_per_tensor_affine(x, group.scale, group.zero_point, QMIN, QMAX)

    def _observe(self, k: int, x: torch.Tensor) -> None:
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        if self._seen is not None:
            seen = self._seen[k]
            seen[0], seen[1] = min(seen[0], low), max(seen[1], high)
        elif self._momentum is not None and not self.groups[k].fixed:
            group, m = self.groups[k], self._momentum
            group.set_range(group.low + m * (low - group.low), group.high + m * (high - group.high))

    def _argument(self, n: int, values: dict[int, torch.Tensor], device: torch.device) -> torch.Tensor:
        if n in values:
            return values[n]
        if str(n) in self.weights:
            return self._fake_weight(n)
        constant = self._constants[n]
        spec = self.graph.tensors[n]
        if n in self.group_of:
            constant = self._fake_activation(n, constant)
        elif spec.quantized and self.quantizing and len(spec.scale) == 1:
            info = np.iinfo(spec.dtype)
            constant = torch.fake_quantize_per_tensor_affine(
                constant, float(spec.scale[0]), int(spec.zero_point[0]), max(int(info.min), -32768), min(int(info.max), 32767)
            )
        # Shapes and axes are read as numbers: they stay on the CPU.
        return constant.to(device) if constant.is_floating_point() else constant

    def run_node(self, node: Node, arguments: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Returns a node's outputs, fake-quantized, for given inputs (weights and constants included)."""
        result = OPS[node.op](node, arguments)
        outputs = result if isinstance(result, tuple | list) else (result,)
        return tuple(self._fake_activation(n, x) for n, x in zip(node.outputs, outputs, strict=True))

    def arguments(self, node: Node, values: dict[int, torch.Tensor], device: torch.device) -> list[torch.Tensor]:
        """Returns a node's inputs in order: activations from `values`, weights fake-quantized, constants."""
        return [self._argument(n, values, device) for n in node.inputs if n >= 0]

    def forward(self, x: torch.Tensor, *, flatbuffer_layout: bool = False) -> torch.Tensor:
        """Returns the outputs, (N, classes), for (N, *input_shape)."""
        if x.ndim == 4 and not flatbuffer_layout:  # noqa: PLR2004 - NCHW
            x = x.permute(0, 2, 3, 1)
        if len(x) > 1 and not self._batches(x):
            return torch.cat([self._run(sample) for sample in x.split(1)])
        return self._run(x)

    def _batches(self, x: torch.Tensor) -> bool:
        """Returns whether the graph computes several samples at once; it was made for one, and may mix axis 0 with others."""
        if self._batchable is None:
            pair = x[:2].detach()
            with torch.no_grad(), self.floating(), self._unobserved():
                try:
                    together = self._run(pair)
                    apart = torch.cat([self._run(sample) for sample in pair.split(1)])
                    scale = float(apart.abs().max()) + 1e-6
                    self._batchable = together.shape == apart.shape and float((together - apart).abs().max()) < 2e-2 * scale
                except (RuntimeError, IndexError, ValueError):
                    self._batchable = False
        return self._batchable

    @contextlib.contextmanager
    def _unobserved(self) -> Iterator[None]:
        seen, momentum = self._seen, self._momentum
        self._seen = self._momentum = None
        try:
            yield
        finally:
            self._seen, self._momentum = seen, momentum

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        values = {self.graph.input: self._fake_activation(self.graph.input, x)}
        for node in self.graph.nodes:
            outputs = self.run_node(node, self.arguments(node, values, x.device))
            values.update(zip(node.outputs, outputs, strict=True))
            for n in self._last_use.get(node.index, ()):
                values.pop(n, None)
        return values[self.graph.output]

    # -- ranges ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def calibrate(self, batches: Iterable[torch.Tensor], input_range: tuple[float, float] | None = None) -> None:
        """Sets every activation range to the least and largest value seen in the float model.

        Args:
            batches: Network inputs.
            input_range: What the input can hold at all, where that is known; it replaces what was seen.

        Raises:
            ModelError: No sample was given, or a value was not finite.
        """
        self._seen = [[np.inf, -np.inf] for _ in self.groups]
        try:
            with self.floating():
                for batch in batches:
                    self(batch)
            seen = self._seen
        finally:
            self._seen = None
        for k, (group, (low, high)) in enumerate(zip(self.groups, seen, strict=True)):
            if k not in self._observed.values():
                continue
            if not (np.isfinite(low) and np.isfinite(high)):
                where = self.graph.tensors[group.tensors[0]].name
                raise ModelError(f"calibration saw no finite value at {where}: are the weights and the calibration samples sound?")
            group.set_range(low, high)
        if input_range is not None and self.graph.input in self.group_of:
            self.groups[self.group_of[self.graph.input]].set_range(*input_range)

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

    # -- masks -----------------------------------------------------------------------------------------------------

    def hold_zeros(self) -> None:
        """Remembers which weights are zero, for `apply_masks` to keep them so through training."""
        self.masks = {
            key: (weight.detach() != 0).to(weight.dtype) for key, weight in self.weights.items() if int(key) not in self.biases
        }

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Sets the remembered zeros again."""
        for key, mask in self.masks.items():
            self.weights[key].mul_(mask.to(self.weights[key].device))

    # -- the flatbuffer --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def quantized_constants(self) -> dict[int, tuple[NDArray[Any], NDArray[np.float32]]]:
        """Returns, for every weight and bias, its integers and their scales."""
        result: dict[int, tuple[NDArray[Any], NDArray[np.float32]]] = {}
        for key in self.weights:
            n, spec = int(key), self.graph.tensors[int(key)]
            if not spec.quantized or n in self.biases:
                continue
            scale = self.weight_scale(n)
            fake = self._fake_weight(n)
            shape = [-1 if d == spec.axis and len(scale) > 1 else 1 for d in range(fake.ndim)]
            integers = torch.round(fake / scale.reshape(shape)).to(torch.int8)
            result[n] = (integers.cpu().numpy(), scale.cpu().numpy().astype(np.float32))
        for n in self._constants:
            if n in self.group_of:
                group = self.groups[self.group_of[n]]
                values = np.rint(self._constants[n].numpy().astype(np.float64) / group.scale) + group.zero_point
                result[n] = (np.clip(values, QMIN, QMAX).astype(np.int8), np.array([group.scale], np.float32))
        for n, (owner, source) in self.biases.items():
            spec = self.graph.tensors[n]
            if not spec.quantized or owner not in result:
                continue
            scale = (result[owner][1].astype(np.float64) * self.groups[self.group_of[source]].scale).astype(np.float32)
            info = np.iinfo(spec.dtype)
            values = self.weights[str(n)].detach().cpu().numpy().astype(np.float64)
            integers = np.clip(np.rint(values / scale.astype(np.float64)), info.min, info.max).astype(spec.dtype)
            result[n] = (integers, scale)
        return result

    def write_into(self, model: schema.ModelT) -> None:
        """Writes the twin's ranges, weights and biases into the flatbuffer it was built from.

        Raises:
            ModelError: `model` is not that flatbuffer.
        """
        subgraph = model.subgraphs[0]
        if [t.name for t in subgraph.tensors] != [t.name.encode() for t in self.graph.tensors]:
            raise ModelError("the twin belongs to another flatbuffer")
        for n, k in self.group_of.items():
            group = self.groups[k]
            _set_quantization(subgraph.tensors[n], np.array([group.scale], np.float32), np.array([group.zero_point], np.int64))
        for n, (integers, scale) in self.quantized_constants().items():
            tensor = subgraph.tensors[n]
            zero_point = self.groups[self.group_of[n]].zero_point if n in self.group_of else 0
            _set_quantization(tensor, scale, np.full(len(scale), zero_point, np.int64))
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(integers.tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1

    # -- the twin on disk ------------------------------------------------------------------------------------------

    def ranges(self) -> list[dict[str, Any]]:
        """Returns the activation ranges as plain JSON values, one per group, named by their first tensor."""
        return [
            {"tensor": self.graph.tensors[g.tensors[0]].name, "low": g.low, "high": g.high, "scale": g.scale, "zero_point": g.zero_point}
            for g in self.groups
        ]

    def load_ranges(self, ranges: list[dict[str, Any]]) -> None:
        """Takes ranges that `ranges` gave, matched by tensor name.

        Raises:
            ModelError: They are of another flatbuffer.
        """
        by_name = {entry["tensor"]: entry for entry in ranges}
        for group in self.groups:
            entry = by_name.get(self.graph.tensors[group.tensors[0]].name)
            if entry is None:
                raise ModelError(f"no range for tensor {self.graph.tensors[group.tensors[0]].name}")
            group.low, group.high = float(entry["low"]), float(entry["high"])
            group.scale, group.zero_point = float(entry["scale"]), int(entry["zero_point"])


def _float_values(floating: schema.ModelT, originals: dict[str, schema.TensorT], tensor: TensorSpec) -> NDArray[Any]:
    """Returns the float values of a constant, found by name (the quantizer names its copies NAME_17 or NAME_duplicated_17)."""
    for name in (tensor.name, re.sub(r"(_duplicated)?_\d+$", "", tensor.name)):
        original = originals.get(name)
        if original is not None:
            values = tensor_values(floating, original)
            if values is not None and tensor.constant is not None and values.shape == tensor.constant.shape:
                return values.astype(np.float32)
    raise ModelError(f"the float flatbuffer holds no constant named {tensor.name}")


def _set_quantization(tensor: schema.TensorT, scale: NDArray[np.float32], zero_point: NDArray[np.int64]) -> None:
    tensor.quantization.scale = scale
    tensor.quantization.zeroPoint = zero_point
    tensor.quantization.min = None
    tensor.quantization.max = None
