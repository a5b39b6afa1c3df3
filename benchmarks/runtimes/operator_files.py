"""Flatbuffers of one operator, and what that operator gives in exact arithmetic."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

TYPES = {name: getattr(schema.TensorType, name.upper()) for name in ("int8", "int32", "float32", "bool")}
Reals = NDArray[np.float64]
Exact = Callable[..., Any]


@dataclass(frozen=True)
class Spec:
    """One tensor of an operator.

    Attributes:
        shape: Its sides.
        dtype: `int8`, `int32`, `float32` or `bool`.
        scale: None for an INT8 output that gets one which fits what is computed; () for what is not quantized.
        zero: Its zero point.
        values: What a constant holds; None for an activation.
        low: Smallest random integer of an input.
        high: The largest.
        axis: Of the scales, where there is more than one.
        fits: The step of a fitted output, in steps that just cover all results: below 1 it saturates.
    """

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: tuple[float, ...] | None = ()
    zero: int = 0
    values: NDArray[Any] | None = None
    low: int = -128
    high: int = 127
    axis: int = 0
    fits: float = 1.0

    def real(self, integers: NDArray[Any]) -> NDArray[Any]:
        """Returns the real numbers that integers stand for; what is not quantized comes back as it is."""
        if not self.scale:
            return integers
        # The interpreters hold scales as float32.
        scale = np.asarray(self.scale, np.float32).astype(np.float64)
        if len(scale) > 1:
            scale = scale.reshape([-1 if side == self.axis else 1 for side in range(len(self.shape))])
        return (integers.astype(np.float64) - self.zero) * scale


@dataclass(frozen=True)
class Case:
    """One operator with inputs of given shapes and grids.

    Attributes:
        op: Its name in the schema.
        variant: What sets this case apart from the operator's others.
        inputs: Its inputs, None for one that is left out.
        outputs: Its outputs; INT8 ones with a scale of None are fitted.
        exact: What it computes, from real numbers to real numbers (or integers, or truth values).
        options: Of the schema, by name.
        table: The schema's table of options; "" where it has the operator's name.
        allowed: Whether TFLite's quantization specification allows these grids.
    """

    op: str
    variant: str
    inputs: tuple[Spec | None, ...]
    outputs: tuple[Spec, ...]
    exact: Exact
    options: dict[str, Any] = field(default_factory=dict)
    table: str = ""
    allowed: bool = True

    @property
    def name(self) -> str:
        """Operator and variant."""
        return f"{self.op}, {self.variant}"


@dataclass(frozen=True)
class Made:
    """A case with its numbers.

    Attributes:
        case: The case, its outputs' scales known.
        inputs: What its activations are given.
        expected: Exact results, in steps of the outputs where those are INT8: not rounded, but clipped.
        content: The flatbuffers, one for each version of the operator.
    """

    case: Case
    inputs: tuple[NDArray[Any], ...]
    expected: tuple[NDArray[Any], ...]
    content: tuple[bytes, ...]


def make(case: Case, versions: int = 6, *, floating: bool = False) -> Made:
    """Returns a case with random integers over the whole range, the same each time.

    Args:
        case: What to make.
        versions: How many versions of the operator to write.
        floating: Whether to write the float32 operator in its place.
    """
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    integers = [None if spec is None else drawn(spec, rng) for spec in case.inputs]
    given = [(spec, values) for spec, values in zip(case.inputs, integers, strict=True) if spec is not None]
    with np.errstate(all="ignore"):
        results = case.exact(*(spec.real(values) for spec, values in given))
    results = results if isinstance(results, tuple) else (results,)
    results = tuple(np.asarray(found).reshape(spec.shape) for found, spec in zip(results, case.outputs, strict=True))
    outputs = tuple(fitted(spec, found) for spec, found in zip(case.outputs, results, strict=True))
    case = replace(case, outputs=outputs)
    expected = tuple(in_steps(spec, found) for spec, found in zip(outputs, results, strict=True))
    activations = [(spec, values) for spec, values in given if spec.values is None]
    fed = tuple(as_float(spec, values) if floating else values for spec, values in activations)
    return Made(case, fed, expected, tuple(flatbuffer(case, n + 1, floating=floating) for n in range(versions)))


def drawn(spec: Spec, rng: np.random.Generator) -> NDArray[Any]:
    """Returns a constant's values or random ones: every integer of the range where there are as many values."""
    if spec.values is not None:
        return spec.values
    size = math.prod(spec.shape)
    if spec.dtype == "bool":
        return rng.integers(0, 2, spec.shape).astype(bool)
    span = spec.high - spec.low + 1
    every = np.tile(np.arange(spec.low, spec.high + 1), -(-size // span))[:size]
    return rng.permutation(every).reshape(spec.shape).astype(spec.dtype)


def fitted(spec: Spec, results: NDArray[Any]) -> Spec:
    """Returns an output with a grid that covers what is computed."""
    if spec.scale is not None:
        return spec
    finite = results[np.isfinite(results)]
    low, high = min(float(finite.min(initial=0)), 0.0), max(float(finite.max(initial=0)), 0.0)
    scale = max(high - low, 1e-6) / 255
    zero = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return replace(spec, scale=(float(np.float32(scale * spec.fits)),), zero=zero)


def in_steps(spec: Spec, results: NDArray[Any]) -> NDArray[Any]:
    """Returns exact results in steps of an INT8 output, clipped; others come back as they are."""
    if not spec.scale:
        return results
    scale = float(np.float32(spec.scale[0]))
    return np.clip(results.astype(np.float64) / scale + spec.zero, -128, 127)


def as_float(spec: Spec, values: NDArray[Any]) -> NDArray[Any]:
    """Returns the float32 numbers that integers stand for."""
    return spec.real(values).astype(np.float32) if spec.scale else values


def flatbuffer(case: Case, version: int, *, floating: bool = False) -> bytes:
    """Returns a flatbuffer that holds the one operator."""
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, case.op)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    model.version, model.operatorCodes, model.buffers, model.subgraphs = 3, [code], [schema.BufferT()], [graph]
    graph.tensors, graph.inputs, graph.outputs = [], [], []
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [], []
    for spec in case.inputs:
        operator.inputs.append(-1 if spec is None else _add(model, spec, floating=floating))
        if spec is not None and spec.values is None:
            graph.inputs.append(operator.inputs[-1])
    for spec in case.outputs:
        operator.outputs.append(_add(model, spec, floating=floating))
    graph.outputs = list(operator.outputs)
    table = case.table or "".join(part.title() for part in case.op.split("_")) + "Options"
    if case.options or case.table or hasattr(schema.BuiltinOptions, table):
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        operator.builtinOptions = getattr(schema, f"{table}T")()
        for name, value in case.options.items():
            assert hasattr(operator.builtinOptions, name), f"{table} has no {name}"
            setattr(operator.builtinOptions, name, value)
    graph.operators = [operator]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _add(model: schema.ModelT, spec: Spec, *, floating: bool) -> int:
    graph, tensor = model.subgraphs[0], schema.TensorT()
    becomes = floating and bool(spec.scale)
    tensor.name, tensor.shape, tensor.buffer = f"t{len(graph.tensors)}", list(spec.shape), 0
    tensor.type = TYPES["float32" if becomes else spec.dtype]
    if spec.scale and not becomes:
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.asarray(spec.scale, np.float32)
        quantization.zeroPoint = np.full(len(spec.scale), spec.zero, np.int64)
        quantization.quantizedDimension = spec.axis
        tensor.quantization = quantization
    if spec.values is not None:
        buffer = schema.BufferT()
        values = as_float(spec, spec.values) if becomes else spec.values
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def compared(made: Made, outputs: list[NDArray[Any]]) -> Iterator[tuple[float, float, float]]:
    """Gives, for each output: shares not exact and off by more than one step, in percent; the largest difference.

    Either neighbour is right where the exact result lies between two. What is no INT8 has steps of 1; for truth values
    the difference is that of what was compared, in steps of the coarser grid.
    """
    for spec, exact, got in zip(made.case.outputs, made.expected, outputs, strict=True):
        if got.shape != exact.shape:
            yield 100.0, 100.0, math.inf
            continue
        if spec.dtype == "bool":
            steps = np.where(got == exact, 0.0, np.maximum(_apart(made), 1e-3))
            wrong = got != exact
        else:
            # Floating point may take a tie's half a little off; a step's hundredth is no difference.
            distance = np.abs(got.astype(np.float64) - exact.astype(np.float64))
            steps = np.ceil(np.maximum(distance - 0.51, 0.0))
            wrong = steps > 0
        known = np.isfinite(exact.astype(np.float64))
        steps, wrong = steps[known], wrong[known]
        yield 100.0 * float(wrong.mean()), 100.0 * float((steps > 1).mean()), float(steps.max(initial=0))


def _apart(made: Made) -> NDArray[Any]:
    read = [spec for spec in made.case.inputs if spec is not None]
    fed = iter(made.inputs)
    reals = [spec.real(spec.values if spec.values is not None else next(fed)) for spec in read]
    coarser = max(spec.scale[0] for spec in read if spec.scale)
    return np.abs(np.subtract(*np.broadcast_arrays(*reals))) / coarser
