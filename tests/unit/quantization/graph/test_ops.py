"""Each operator's arithmetic against LiteRT's float kernel, one flatbuffer an operator, alone and in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.graph import read_graph
from edgecompress.quantization.graph.ops import OPS
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from tests.unit.made_flatbuffer import Made, Op, constant, make_model

RNG = np.random.default_rng(7)


@dataclass(frozen=True)
class Case:
    """A graph with one input (tensor 0) and one output (the last tensor)."""

    name: str
    tensors: Sequence[Made]
    ops: Sequence[Op]
    positive: bool = False


def act(*shape: int) -> Made:
    return Made(shape)


def weights(*shape: int) -> Made:
    return constant(RNG.standard_normal(shape), "float32")


def numbers(*values: Any) -> Made:
    return constant(values, "int32")


#: Where LiteRT has no first version of an operator.
_VERSIONS = {"BROADCAST_TO": 3}


def one(name: str, source: tuple[int, ...], sink: tuple[int, ...], *constants: Made, **options: Any) -> Case:
    """Returns a graph of one operator that reads the input and then constants."""
    op = name.partition(" ")[0]
    tensors = [act(*source), *constants, act(*sink)]
    last = len(tensors) - 1
    return Case(name, tensors, [Op(op, tuple(range(last)), (last,), options, version=_VERSIONS.get(op, 1))])


def spread(shape: tuple[int, ...], target: tuple[int, int]) -> Case:
    """Returns a sum with a constant whose first axis is no batch, as a grid of places is made of two rows."""
    tensors = [act(1, *target), weights(*shape), numbers(*target), act(*target), act(1, *target)]
    ops = [Op("BROADCAST_TO", (1, 2), (3,), version=3), Op("ADD", (0, 3), (4,))]
    return Case(f"BROADCAST_TO of {shape}", tensors, ops)


IMAGE = (1, 7, 8, 4)
SPATIAL = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"padding": 0, "strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 3}
STRIDED = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}


def convolutions() -> list[Case]:
    kernel, bias = weights(6, 3, 3, 4), weights(6)
    depth = weights(1, 3, 3, 4)
    return [
        one("CONV_2D same", IMAGE, (1, 7, 8, 6), kernel, bias, **SPATIAL),
        one("CONV_2D valid", IMAGE, (1, 5, 6, 6), kernel, bias, **SPATIAL | {"padding": 1}),
        one("CONV_2D same stride", IMAGE, (1, 4, 4, 6), kernel, bias, **SPATIAL | {"strideH": 2, "strideW": 2}),
        one(
            "CONV_2D valid stride",
            IMAGE,
            (1, 3, 3, 6),
            kernel,
            bias,
            **SPATIAL | {"padding": 1, "strideH": 2, "strideW": 2},
        ),
        one(
            "CONV_2D dilated",
            IMAGE,
            (1, 7, 8, 6),
            kernel,
            bias,
            **SPATIAL | {"dilationHFactor": 2, "dilationWFactor": 3},
        ),
        one("CONV_2D even kernel", IMAGE, (1, 7, 8, 5), weights(5, 2, 4, 4), weights(5), **SPATIAL),
        one("CONV_2D uneven stride", IMAGE, (1, 4, 8, 6), kernel, bias, **SPATIAL | {"strideH": 2}),
        one("CONV_2D relu", IMAGE, (1, 7, 8, 6), kernel, bias, **SPATIAL | {"fusedActivationFunction": 1}),
        one("CONV_2D relu6", IMAGE, (1, 7, 8, 6), kernel, bias, **SPATIAL | {"fusedActivationFunction": 3}),
        one("CONV_2D grouped", IMAGE, (1, 7, 8, 6), weights(6, 3, 3, 2), bias, **SPATIAL),
        one("CONV_2D pointwise", IMAGE, (1, 7, 8, 6), weights(6, 1, 1, 4), bias, **SPATIAL),
        one("DEPTHWISE_CONV_2D same", IMAGE, IMAGE, depth, weights(4), **SPATIAL, depthMultiplier=1),
        one(
            "DEPTHWISE_CONV_2D stride",
            IMAGE,
            (1, 4, 4, 4),
            depth,
            weights(4),
            **SPATIAL | {"strideH": 2, "strideW": 2},
            depthMultiplier=1,
        ),
        one(
            "DEPTHWISE_CONV_2D valid",
            IMAGE,
            (1, 5, 6, 4),
            depth,
            weights(4),
            **SPATIAL | {"padding": 1},
            depthMultiplier=1,
        ),
        one(
            "DEPTHWISE_CONV_2D twice as many",
            IMAGE,
            (1, 7, 8, 8),
            weights(1, 3, 3, 8),
            weights(8),
            **SPATIAL,
            depthMultiplier=2,
        ),
        one(
            "DEPTHWISE_CONV_2D dilated",
            IMAGE,
            IMAGE,
            depth,
            weights(4),
            **SPATIAL | {"dilationHFactor": 2, "dilationWFactor": 2},
            depthMultiplier=1,
        ),
        one("FULLY_CONNECTED", (1, 5), (1, 3), weights(3, 5), weights(3)),
        one("FULLY_CONNECTED relu", (1, 5), (1, 3), weights(3, 5), weights(3), fusedActivationFunction=1),
        one("FULLY_CONNECTED no bias", (1, 5), (1, 3), weights(3, 5)),
        one("FULLY_CONNECTED kept axes", (1, 6, 5), (1, 6, 3), weights(3, 5), weights(3), keepNumDims=True),
    ]


def pools_and_reductions() -> list[Case]:
    cases = []
    for op in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        cases += [
            one(f"{op} same", IMAGE, (1, 4, 4, 4), **POOL),
            one(f"{op} valid", IMAGE, (1, 3, 3, 4), **POOL | {"padding": 1}),
            one(f"{op} even", IMAGE, (1, 3, 4, 4), **POOL | {"padding": 1, "filterHeight": 2, "filterWidth": 2}),
            one(f"{op} relu", IMAGE, (1, 4, 4, 4), **POOL | {"fusedActivationFunction": 1}),
        ]
    for op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        cases += [
            one(f"{op} picture", IMAGE, (1, 4), numbers(1, 2)),
            one(f"{op} kept", IMAGE, (1, 1, 1, 4), numbers(1, 2), keepDims=True),
            one(f"{op} channels", IMAGE, (1, 7, 8, 1), numbers(-1), keepDims=True),
        ]
    return cases


def elementwise() -> list[Case]:
    cases = []
    for op in (
        "ABS",
        "NEG",
        "SQUARE",
        "EXP",
        "SIN",
        "COS",
        "TANH",
        "LOGISTIC",
        "HARD_SWISH",
        "ELU",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
    ):
        cases += [one(op, IMAGE, IMAGE)]
    for op in ("LOG", "SQRT", "RSQRT"):
        case = one(op, IMAGE, IMAGE)
        cases.append(Case(op, case.tensors, case.ops, positive=True))
    cases += [one(f"GELU {kind}", IMAGE, IMAGE, approximate=kind) for kind in (True, False)]
    cases += [
        one("LEAKY_RELU", IMAGE, IMAGE, alpha=0.2),
        one("PRELU", IMAGE, IMAGE, weights(1, 1, 4)),
        one("SOFTMAX", (1, 6, 5), (1, 6, 5), beta=1.0),
        one("SOFTMAX sharper", (1, 5), (1, 5), beta=2.5),
        one("LOG_SOFTMAX", (1, 5), (1, 5)),
    ]
    for op in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
        cases.append(one(f"{op} channels", IMAGE, IMAGE, weights(4)))
        cases.append(one(f"{op} scalar", IMAGE, IMAGE, constant(1.5, "float32")))
        hidden = [act(*IMAGE), act(*IMAGE), act(*IMAGE)]
        cases.append(Case(f"{op} both", hidden, [Op("TANH", (0,), (1,)), Op(op, (1, 0), (2,))]))
    cases += [
        one("ADD relu", IMAGE, IMAGE, weights(4), fusedActivationFunction=1),
        one("SUB tanh-clamped", IMAGE, IMAGE, weights(4), fusedActivationFunction=2),
        one("MUL relu6", IMAGE, IMAGE, weights(4), fusedActivationFunction=3),
    ]
    power = one("POW", IMAGE, IMAGE, constant(1.5, "float32"))
    cases.append(Case("POW", power.tensors, power.ops, positive=True))
    gate = [act(*IMAGE), numbers(1, 2), act(1, 1, 1, 4), act(*IMAGE)]
    cases.append(Case("MUL gate", gate, [Op("MEAN", (0, 1), (2,), {"keepDims": True}), Op("MUL", (0, 2), (3,))]))
    return cases


def movers() -> list[Case]:
    pads = constant([[0, 0], [1, 2], [0, 1], [0, 0]], "int32")
    axis = constant(3, "int32")
    shuffled = [
        act(*IMAGE),
        numbers(1, 7, 8, 2, 2),
        act(1, 7, 8, 2, 2),
        numbers(0, 1, 2, 4, 3),
        act(1, 7, 8, 2, 2),
        numbers(1, 7, 8, 4),
        act(*IMAGE),
    ]
    shuffle = [Op("RESHAPE", (0, 1), (2,)), Op("TRANSPOSE", (2, 3), (4,)), Op("RESHAPE", (4, 5), (6,))]
    halves = [axis, act(1, 7, 8, 2), act(1, 7, 8, 2), act(1, 7, 8, 2)]
    parts = [numbers(1, 3), axis, act(1, 7, 8, 1), act(1, 7, 8, 3), act(1, 7, 8, 3)]
    layers = [act(1, 2, 5), act(1, 5), act(1, 5), act(1, 5, 2)]
    return [
        one("PAD", IMAGE, (1, 10, 9, 4), pads),
        one("PADV2", IMAGE, (1, 10, 9, 4), pads, constant(-2.5, "float32")),
        one("RESHAPE", IMAGE, (1, 56, 4), numbers(1, 56, 4)),
        one("RESHAPE rows", IMAGE, (56, 4), numbers(56, 4)),
        one("SQUEEZE", (1, 1, 1, 4), (1, 4), squeezeDims=[1, 2]),
        one("EXPAND_DIMS", (1, 4), (1, 1, 4), constant(1, "int32")),
        one("TRANSPOSE", IMAGE, (1, 4, 7, 8), numbers(0, 3, 1, 2)),
        Case("channel shuffle", shuffled, shuffle),
        Case("SPLIT", [act(*IMAGE), *halves], [Op("SPLIT", (1, 0), (2, 3), {"numSplits": 2}), Op("SUB", (2, 3), (4,))]),
        Case(
            "SPLIT_V",
            [act(*IMAGE), *parts],
            [Op("SPLIT_V", (0, 1, 2), (3, 4), {"numSplits": 2}), Op("MUL", (4, 3), (5,))],
        ),
        Case(
            "UNPACK and PACK",
            layers,
            [
                Op("UNPACK", (0,), (1, 2), {"num": 2, "axis": 1}),
                Op("PACK", (2, 1), (3,), {"valuesCount": 2, "axis": 2}),
            ],
        ),
        Case(
            "CONCATENATION",
            [act(*IMAGE), act(*IMAGE), act(1, 7, 8, 8)],
            [Op("NEG", (0,), (1,)), Op("CONCATENATION", (1, 0), (2,), {"axis": 3})],
        ),
        Case(
            "CONCATENATION relu",
            [act(*IMAGE), act(1, 14, 8, 4)],
            [Op("CONCATENATION", (0, 0), (1,), {"axis": 1, "fusedActivationFunction": 0})],
        ),
        one(
            "STRIDED_SLICE",
            IMAGE,
            (1, 3, 4, 2),
            numbers(0, 1, 0, 1),
            numbers(1, 6, 8, 3),
            numbers(1, 2, 2, 1),
            **STRIDED,
        ),
        one(
            "STRIDED_SLICE masks",
            IMAGE,
            (1, 6, 7, 4),
            numbers(9, 1, 3, 0),
            numbers(9, 9, 7, 9),
            numbers(1, 1, 1, 1),
            **STRIDED | {"beginMask": 0b1101, "endMask": 0b1011},
        ),
        one(
            "STRIDED_SLICE shrink",
            IMAGE,
            (1, 8, 4),
            numbers(0, 2, 0, 0),
            numbers(1, 3, 8, 4),
            numbers(1, 1, 1, 1),
            **STRIDED | {"shrinkAxisMask": 2},
        ),
        one(
            "STRIDED_SLICE negative",
            IMAGE,
            (1, 2, 8, 4),
            numbers(0, -3, 0, 0),
            numbers(1, -1, 8, 4),
            numbers(1, 1, 1, 1),
            **STRIDED,
        ),
        one("SLICE", IMAGE, (1, 3, 8, 2), numbers(0, 2, 0, 1), numbers(1, 3, -1, 2)),
        one("GATHER", IMAGE, (1, 7, 8, 3), numbers(3, 0, 3), axis=3),
        one("BROADCAST_TO", (1, 1, 8, 1), IMAGE, numbers(*IMAGE)),
        one("BROADCAST_TO more axes", (1, 4), (1, 3, 4), numbers(1, 3, 4)),
        spread((1, 8), (5, 8)),
        spread((8,), (5, 8)),
        spread((5, 1), (5, 8)),
        one(
            "RESIZE_BILINEAR half pixels",
            IMAGE,
            (1, 14, 12, 4),
            numbers(14, 12),
            halfPixelCenters=True,
            alignCorners=False,
        ),
        one(
            "RESIZE_BILINEAR corners", IMAGE, (1, 13, 15, 4), numbers(13, 15), halfPixelCenters=False, alignCorners=True
        ),
        one(
            "RESIZE_NEAREST_NEIGHBOR",
            IMAGE,
            (1, 14, 16, 4),
            numbers(14, 16),
            halfPixelCenters=False,
            alignCorners=False,
        ),
        one(
            "RESIZE_NEAREST_NEIGHBOR half pixels",
            IMAGE,
            (1, 10, 5, 4),
            numbers(10, 5),
            halfPixelCenters=True,
            alignCorners=False,
        ),
    ]


def products() -> list[Case]:
    cases = [one("BATCH_MATMUL", (1, 3, 4), (1, 3, 5), weights(1, 4, 5))]
    tokens = [act(1, 6, 4), act(1, 6, 4), act(1, 6, 6)]
    cases.append(
        Case("BATCH_MATMUL adjY", tokens, [Op("TANH", (0,), (1,)), Op("BATCH_MATMUL", (0, 1), (2,), {"adjY": True})])
    )
    tokens = [act(1, 6, 4), act(1, 6, 4), act(1, 4, 4)]
    cases.append(
        Case("BATCH_MATMUL adjX", tokens, [Op("TANH", (0,), (1,)), Op("BATCH_MATMUL", (0, 1), (2,), {"adjX": True})])
    )
    norm = [
        act(1, 6, 8),
        numbers(-1),
        act(1, 6, 1),
        act(1, 6, 8),
        act(1, 6, 1),
        constant(1e-5, "float32"),
        act(1, 6, 1),
        act(1, 6, 1),
        act(1, 6, 8),
        act(1, 6, 8),
        weights(8),
        act(1, 6, 8),
    ]
    kept = {"keepDims": True}
    ops = [
        Op("MEAN", (0, 1), (2,), kept),
        Op("SQUARED_DIFFERENCE", (0, 2), (3,)),
        Op("MEAN", (3, 1), (4,), kept),
        Op("ADD", (4, 5), (6,)),
        Op("RSQRT", (6,), (7,)),
        Op("SUB", (0, 2), (8,)),
        Op("MUL", (8, 7), (9,)),
        Op("MUL", (9, 10), (11,)),
    ]
    return [*cases, Case("layer norm", norm, ops)]


def comparisons() -> list[Case]:
    """Returns graphs that choose between the input and its negative by a truth value."""
    cases = []
    for op in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"):
        tensors = [act(*IMAGE), weights(4), Made(IMAGE, "bool"), act(*IMAGE), act(*IMAGE)]
        chosen = [Op(op, (0, 1), (2,)), Op("NEG", (0,), (3,)), Op("SELECT_V2", (2, 0, 3), (4,))]
        cases.append(Case(op, tensors, chosen))
    for op in ("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"):
        both = (2, 3) if op != "LOGICAL_NOT" else (2,)
        tensors = [act(*IMAGE), weights(4), *[Made(IMAGE, "bool")] * 3, act(*IMAGE), act(*IMAGE)]
        ops = [Op("LESS", (0, 1), (2,)), Op("GREATER", (0, 1), (3,)), Op(op, both, (4,))]
        cases.append(Case(op, tensors, [*ops, Op("NEG", (0,), (5,)), Op("SELECT", (4, 0, 5), (6,))]))
    for op in ("REDUCE_ANY", "REDUCE_ALL"):
        tensors = [act(*IMAGE), weights(4), Made(IMAGE, "bool"), numbers(1, 2), Made((1, 1, 1, 4), "bool")]
        ops = [Op("LESS", (0, 1), (2,)), Op(op, (2, 3), (4,), {"keepDims": True}), Op("NEG", (0,), (5,))]
        cases.append(Case(op, [*tensors, act(*IMAGE), act(*IMAGE)], [*ops, Op("SELECT_V2", (4, 0, 5), (6,))]))
    return cases


def rarer() -> list[Case]:
    pads = constant([[0, 0], [1, 2], [3, 1], [0, 0]], "int32")
    up = {"padding": 0, "strideH": 2, "strideW": 2}
    shape, kernel = numbers(1, 14, 16, 5), weights(5, 3, 3, 4)

    def upward(name: str, sink: tuple[int, ...], *others: Made, **options: Any) -> Case:
        tensors = [act(*IMAGE), *others, act(*sink)]
        inputs = (1, 2, 0, *range(3, len(tensors) - 1))
        return Case(name, tensors, [Op("TRANSPOSE_CONV", inputs, (len(tensors) - 1,), options, version=3)])

    floor = {op: one(op, IMAGE, IMAGE) for op in ("FLOOR", "CEIL", "ROUND", "SIGN")}
    places = [act(*IMAGE), constant(3, "int32"), Made((1, 7, 8), "int32"), act(1, 7, 8)]
    found = [
        Case(op, places, [Op(op, (0, 1), (2,), {"outputType": 2}), Op("CAST", (2,), (3,), {"inDataType": 2})])
        for op in ("ARG_MAX", "ARG_MIN")
    ]
    return [
        *floor.values(),
        *found,
        Case("TOPK_V2", [act(*IMAGE), constant(3, "int32"), act(1, 7, 8, 3), Made((1, 7, 8, 3), "int32")],
             [Op("TOPK_V2", (0, 1), (2, 3))]),
        Case("TOPK_V2 places", [act(*IMAGE), constant(2, "int32"), act(1, 7, 8, 2), Made((1, 7, 8, 2), "int32"),
             act(1, 7, 8, 2)], [Op("TOPK_V2", (0, 1), (2, 3)), Op("CAST", (3,), (4,), {"inDataType": 2})]),
        one("FLOOR_DIV", IMAGE, IMAGE, constant(0.75, "float32")),
        one("FLOOR_MOD", IMAGE, IMAGE, constant(0.75, "float32")),
        one("CUMSUM", IMAGE, IMAGE, constant(3, "int32")),
        one("CUMSUM backwards", IMAGE, IMAGE, constant(2, "int32"), reverse=True, exclusive=True),
        one("DEPTH_TO_SPACE", IMAGE, (1, 14, 16, 1), blockSize=2),
        one("SPACE_TO_DEPTH", (1, 6, 8, 3), (1, 3, 4, 12), blockSize=2),
        one("DYNAMIC_UPDATE_SLICE", IMAGE, IMAGE, weights(1, 2, 8, 4), numbers(0, 3, 0, 0)),
        one("GATHER_ND", IMAGE, (2, 8, 4), constant([[0, 2], [0, 5]], "int32")),
        one("MIRROR_PAD", IMAGE, (1, 10, 12, 4), pads, mode=0),
        one("MIRROR_PAD symmetric", IMAGE, (1, 10, 12, 4), pads, mode=1),
        one("REDUCE_PROD", IMAGE, (1, 4), numbers(1, 2)),
        one("REVERSE_V2", IMAGE, IMAGE, numbers(2)),
        one("TILE", IMAGE, (1, 14, 8, 12), numbers(1, 2, 1, 3)),
        one("STRIDED_SLICE backwards", IMAGE, (1, 7, 8, 4), numbers(0, 6, 0, 0), numbers(1, -8, 8, 4),
            numbers(1, -1, 1, 1), **STRIDED),
        one("STRIDED_SLICE backwards by two", IMAGE, (1, 7, 3, 4), numbers(0, 0, 6, 0), numbers(1, 7, 0, 4),
            numbers(1, 1, -2, 1), **STRIDED),
        upward("TRANSPOSE_CONV same", (1, 14, 16, 5), shape, kernel, weights(5), **up),
        upward("TRANSPOSE_CONV no bias", (1, 14, 16, 5), shape, kernel, **up),
        upward(
            "TRANSPOSE_CONV valid", (1, 15, 17, 5), numbers(1, 15, 17, 5), kernel, weights(5), **up | {"padding": 1}
        ),
        upward("TRANSPOSE_CONV even kernel", (1, 14, 16, 5), shape, weights(5, 4, 4, 4), weights(5), **up),
    ]  # fmt: skip


def foreign() -> list[Case]:
    """Returns graphs of operators that LiteRT computes for the twin."""
    return [
        one("L2_NORMALIZATION", IMAGE, IMAGE),
        one("LOCAL_RESPONSE_NORMALIZATION", IMAGE, IMAGE, radius=2, bias=1.0, alpha=0.5, beta=0.75),
        one("CONV_3D", (1, 5, 4, 4, 2), (1, 5, 4, 4, 3), weights(3, 3, 3, 2, 3), weights(3), padding=0, strideD=1,
            strideH=1, strideW=1, dilationDFactor=1, dilationHFactor=1, dilationWFactor=1),
        one("STRIDED_SLICE new axis", IMAGE, (1, 1, 7, 8, 4), numbers(0, 0), numbers(1, 1), numbers(1, 1),
            **STRIDED | {"newAxisMask": 2}),
        one("RESIZE_NEAREST_NEIGHBOR corners", IMAGE, (1, 13, 15, 4), numbers(13, 15), alignCorners=True),
        one("RESIZE_BILINEAR old", IMAGE, (1, 14, 16, 4), numbers(14, 16), alignCorners=False, halfPixelCenters=False),
    ]  # fmt: skip


NATIVE = [*convolutions(), *pools_and_reductions(), *elementwise(), *movers(), *products(), *comparisons(), *rarer()]
CASES = [*NATIVE, *foreign()]


def built(case: Case) -> bytes:
    tensors = [Made(made.shape, made.dtype, made.values, name=f"t{number}") for number, made in enumerate(case.tensors)]
    return pack(make_model(tensors, case.ops))


def kernel_outputs(content: bytes, x: np.ndarray) -> np.ndarray:
    """Returns what LiteRT's plain kernels compute, sample by sample."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for sample in x:
        interpreter.set_tensor(source, sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(sink))
    return np.concatenate(outputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_arithmetic_is_that_of_the_kernel(case: Case) -> None:
    content = built(case)
    x = np.random.default_rng(1).standard_normal((3, *case.tensors[0].shape[1:])).astype(np.float32)
    if case.positive:
        x = np.abs(x) + 0.1
    expected = kernel_outputs(content, x)
    assert expected.shape[1:] == case.tensors[-1].shape[1:]
    assert np.ptp(expected) > 0
    model = read_model(content)
    twin = Twin(model, model, [f"op{k}" for k in range(len(case.ops))])
    with torch.no_grad():
        alone = [twin(torch.from_numpy(sample[None]), flatbuffer_layout=True).numpy() for sample in x]
        together = twin(torch.from_numpy(x), flatbuffer_layout=True).numpy()
    np.testing.assert_allclose(np.concatenate(alone), expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(together, expected, rtol=1e-5, atol=2e-5)


def test_every_operator_is_tested() -> None:
    tested = {op.op for case in NATIVE for op in case.ops}
    # QUANTIZE and DEQUANTIZE change nothing in floating point; the tests of the twin have them. An embedding takes
    # whole numbers; those of the islands run one in the interpreter.
    assert set(OPS) - tested == {"QUANTIZE", "DEQUANTIZE", "EMBEDDING_LOOKUP"}


def test_litert_computes_what_has_no_arithmetic_here_and_nothing_else() -> None:
    for case in CASES:
        model = read_model(built(case))
        nodes = Twin(model, model, [f"op{k}" for k in range(len(case.ops))]).graph.nodes
        assert any(node.foreign is not None for node in nodes) == (case not in NATIVE), case.name


def test_an_operator_that_litert_does_not_run_either_is_named() -> None:
    case = one("CONV_3D", (1, 5, 4, 4, 2), (1, 5, 4, 4, 3), weights(3, 3, 3, 9, 3), padding=0)
    model = read_model(built(case))
    twin = Twin(model, model, ["the layer"])
    with pytest.raises(ModelError, match=r"CONV_3D \(layer the layer\) cannot be run by LiteRT in float32"):
        twin(torch.zeros(1, 5, 4, 4, 2), flatbuffer_layout=True)


def test_options_and_shapes_of_a_node_are_those_of_the_file() -> None:
    graph = read_graph(read_model(built(CASES[0])), ["conv"])
    node = graph.nodes[0]
    assert (node.op, node.label, node.inputs, node.outputs) == ("CONV_2D", "conv", (0, 1, 2), (3,))
    assert node.input_shapes == (IMAGE, (6, 3, 3, 4), (6,))
    assert node.output_shapes == ((1, 7, 8, 6),)
    assert node.options["strideH"] == 1
    assert graph.tensors[1].constant is not None
    assert not graph.tensors[0].quantized
