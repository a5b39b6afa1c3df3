"""Flatbuffers built by hand, operator by operator, so that every number in them is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.tflite.format.packing import pack

#: Operator -> name of its table of options in the schema, where it has one that is not `...Options` of its own name.
_OPTIONS = {
    "ADD": "AddOptions",
    "ARG_MAX": "ArgMaxOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "ARG_MIN": "ArgMinOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CAST": "CastOptions",
    "CUMSUM": "CumsumOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "MIRROR_PAD": "MirrorPadOptions",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "GELU": "GeluOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SHAPE": "ShapeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "SQUEEZE": "SqueezeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "UNPACK": "UnpackOptions",
}


@dataclass(frozen=True)
class Made:
    """One tensor: an activation where `values` is None, else a constant."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    values: Any = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0
    name: str = ""


@dataclass(frozen=True)
class Op:
    """One operator; `options` by the schema's names."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    custom: str = ""
    version: int = 1


def constant(values: Any, dtype: str, **fields: Any) -> Made:
    """Returns a constant tensor with the shape of its values."""
    array = np.asarray(values, dtype)
    return Made(array.shape, dtype, array, **fields)


def int8(*shape: int, name: str = "", scale: float = 0.5, zero_point: int = 3) -> Made:
    """Returns an INT8 activation."""
    return Made(shape, "int8", scale=(scale,), zero_point=(zero_point,), name=name)


def make_model(
    tensors: Sequence[Made], ops: Sequence[Op], inputs: Sequence[int] = (0,), outputs: Sequence[int] = (-1,)
) -> schema.ModelT:
    """Returns a model of one graph; a negative output counts from the end."""
    model = schema.ModelT()
    model.version, model.description = 3, "made by hand"
    model.buffers, model.operatorCodes, model.metadata, model.signatureDefs = [schema.BufferT()], [], [], []
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", [], []
    for made in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = (
            made.name,
            list(made.shape),
            getattr(schema.TensorType, made.dtype.upper()),
        )
        tensor.buffer, tensor.hasRank = 0, True
        if made.values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(made.values).tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        if made.scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array(made.scale, np.float32)
            tensor.quantization.zeroPoint = np.array(made.zero_point or [0] * len(made.scale), np.int64)
            tensor.quantization.quantizedDimension = made.axis
        graph.tensors.append(tensor)
    for op in ops:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, op.op)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), op.version
        code.customCode = op.custom or None
        model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = np.array(op.inputs, np.int32), np.array(op.outputs, np.int32)
        if op.op in _OPTIONS:
            name = _OPTIONS[op.op]
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, f"{name}T")()
            for key, value in op.options.items():
                assert hasattr(operator.builtinOptions, key), f"{name} has no {key}"
                setattr(operator.builtinOptions, key, value)
        graph.operators.append(operator)
    graph.inputs = np.array(inputs, np.int32)
    graph.outputs = np.array([n % len(tensors) for n in outputs], np.int32)
    model.subgraphs = [graph]
    return model


def make_bytes(*args: Any, **kwargs: Any) -> bytes:
    """Returns the same, packed."""
    return pack(make_model(*args, **kwargs))


def run_bytes(content: bytes, *inputs: np.ndarray) -> np.ndarray:
    """Returns the first output of a flatbuffer in LiteRT, as it holds it, for inputs as it takes them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for entry, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    found: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found


def int8_classifier() -> tuple[list[Made], list[Op]]:
    """Returns a small INT8 classifier: a convolution, a depthwise one, an average and a linear layer."""
    rng = np.random.default_rng(0)
    tensors = [
        int8(1, 6, 6, 2, name="input"),
        constant(rng.integers(-127, 128, (4, 3, 3, 2)), "int8", scale=(0.01, 0.02, 0.03, 0.04), axis=0, name="w0"),
        constant(rng.integers(-99, 99, 4), "int32", scale=(0.005, 0.01, 0.015, 0.02), name="b0"),
        int8(1, 6, 6, 4, name="conv"),
        constant(rng.integers(-127, 128, (1, 3, 3, 4)), "int8", scale=(0.01,) * 4, axis=3, name="w1"),
        constant(rng.integers(-99, 99, 4), "int32", scale=(0.005,) * 4, name="b1"),
        int8(1, 3, 3, 4, name="depthwise"),
        constant([1, 2], "int32", name="axes"),
        int8(1, 4, name="mean"),
        constant(rng.integers(-127, 128, (5, 4)), "int8", scale=(0.01,) * 5, name="w2"),
        constant(rng.integers(-99, 99, 5), "int32", scale=(0.005,) * 5, name="b2"),
        int8(1, 5, name="logits"),
    ]
    spatial = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    ops = [
        Op("CONV_2D", (0, 1, 2), (3,), spatial),
        Op("DEPTHWISE_CONV_2D", (3, 4, 5), (6,), spatial | {"strideH": 2, "strideW": 2, "depthMultiplier": 1}),
        Op("MEAN", (6, 7), (8,)),
        Op("FULLY_CONNECTED", (8, 9, 10), (11,)),
    ]
    return tensors, ops
