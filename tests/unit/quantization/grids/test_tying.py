"""Steps of a recurrent layer: one range for all of them, one bias, and a step that is told where it differs."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.graph import Graph, Node, TensorSpec
from edgecompress.quantization.grids.tying import share_biases, step_key, tied_groups
from edgecompress.quantization.structure.stepping import take_integers

FC, ADD, QUANTIZE = (getattr(schema.BuiltinOperator, name) for name in ("FULLY_CONNECTED", "ADD", "QUANTIZE"))


@pytest.mark.parametrize(
    ("label", "op", "key"),
    [
        ("levels.0.step.keep.mul#17", "MUL", "levels.0.step.keep"),
        ("levels.0.step.state.sub", "SUB", "levels.0.step.state"),
        ("levels.1.step_share.gates#3", "FULLY_CONNECTED", "levels.1.step_share.gates"),
        ("levels.0.share.gates", "FULLY_CONNECTED", None),
        ("footstep.mul", "MUL", None),
    ],
)
def test_operators_of_a_step_are_known_by_their_module(label: str, op: str, key: str | None) -> None:
    assert step_key(label, op) == key


def test_the_same_operator_of_all_steps_has_one_range() -> None:
    def tensor(scale: float) -> TensorSpec:
        scales, zeros = np.array([scale], np.float32), np.zeros(1, np.int64)
        return TensorSpec("", np.dtype(np.int8), scales, zeros, 0, None, 8)

    def node(index: int, label: str, inputs: tuple[int, ...], output: int) -> Node:
        return Node(index, "MUL", label, inputs, (output,), {}, ((1, 2),) * len(inputs), ((1, 2),))

    nodes = (node(0, "step.keep.mul", (0, 0), 1), node(1, "step.keep.mul#2", (1, 0), 2), node(2, "mul", (2, 2), 3))
    groups = tied_groups(Graph(nodes, tuple(tensor(0.1 * (n + 1)) for n in range(4)), 0, 3))
    assert [group.tensors for group in groups] == [(0,), (1, 2), (3,)]
    assert groups[1].observed == (1, 2)


def test_what_is_rounded_of_float_values_has_one_range_for_all_steps() -> None:
    """Behind a tanh in float32, the conversion belongs to the tanh: its own label tells nothing."""
    floating = TensorSpec("", np.dtype(np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 0, None, 32)

    def tensor(scale: float) -> TensorSpec:
        return TensorSpec("", np.dtype(np.int8), np.array([scale], np.float32), np.zeros(1, np.int64), 0, None, 8)

    nodes = []
    for step, label in enumerate(("step.squash.tanh", "step.squash.tanh#2", "tanh")):
        number = 1 + 3 * step
        for op, name, n in (("DEQUANTIZE", "dequantize", 0), ("TANH", label, number), ("QUANTIZE", "q", number + 1)):
            output = number if op == "DEQUANTIZE" else n + 1
            nodes.append(Node(len(nodes), op, name, (n,), (output,), {}, ((1, 2),), ((1, 2),)))
    tensors = (tensor(0.1), *(one for step in range(3) for one in (floating, floating, tensor(0.2 + step))))
    groups = tied_groups(Graph(tuple(nodes), tensors, 0, 9))
    assert [group.tensors for group in groups] == [(0,), (3, 6), (9,)]
    assert groups[1].observed == (3, 6)


def flatbuffer(
    scales: list[float], constants: dict[int, bytes], operators: list[tuple[int, list[int], int]]
) -> schema.ModelT:
    """Returns a model of INT8 tensors: (operator, inputs, output)."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.buffers = [schema.BufferT()]
    graph.tensors = []
    for number, scale in enumerate(scales):
        tensor, q = schema.TensorT(), schema.QuantizationParametersT()
        q.scale, q.zeroPoint = np.array([scale], np.float32), np.zeros(1, np.int64)
        tensor.type, tensor.quantization, tensor.buffer = schema.TensorType.INT8, q, 0
        if number in constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(constants[number], np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
    codes = sorted({code for code, _, _ in operators})
    model.operatorCodes, graph.operators = [], []
    for code in codes:
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        model.operatorCodes.append(entry)
    for code, inputs, output in operators:
        operator = schema.OperatorT()
        operator.opcodeIndex = codes.index(code)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        graph.operators.append(operator)
    model.subgraphs = [graph]
    return model


def test_steps_that_share_their_weights_share_their_bias() -> None:
    made = flatbuffer([1.0] * 6, {}, [(FC, [0, 1, 2], 3), (FC, [3, 1, 4], 5)])
    assert share_biases(made, ["step.gates", "step.gates#2"]) == 1
    assert list(made.subgraphs[0].operators[1].inputs) == [3, 1, 2]
    other = flatbuffer([1.0] * 6, {}, [(FC, [0, 1, 2], 3), (FC, [3, 1, 4], 5)])
    assert share_biases(other, ["fc", "fc#2"]) == 0


def pair(start: float = 0.5) -> tuple[schema.ModelT, schema.ModelT]:
    """Returns a whole of two steps, state = weight * input + state, and the model of one step."""
    # 0 input, 1 weight, 2 share, 3 state before, 4 first state, 5 last state
    whole = flatbuffer(
        [0.1, 0.2, 0.3, start, 0.5, 0.5], {1: b"\x07", 3: b"\x00"},
        [(FC, [0, 1], 2), (ADD, [2, 3], 4), (ADD, [2, 4], 5)],
    )  # fmt: skip
    whole.subgraphs[0].inputs, whole.subgraphs[0].outputs = np.array([0]), np.array([5])
    # 0 input, 1 state in, 2 weight, 3 share, 4 state out, 5 answer
    step = flatbuffer([1.0] * 6, {2: b"\x01"}, [(FC, [0, 2], 3), (ADD, [3, 1], 4), (ADD, [3, 4], 5)])
    step.subgraphs[0].inputs, step.subgraphs[0].outputs = np.array([0, 1]), np.array([5, 4])
    return whole, step


def test_a_step_takes_the_integers_of_the_whole() -> None:
    whole, step = pair()
    take_integers(step, ["share", "add", "step.state.add"], whole, ["share", "step.state.add", "step.state.add#2"])
    tensors = step.subgraphs[0].tensors
    assert [round(float(t.quantization.scale[0]), 3) for t in tensors] == [0.1, 0.5, 0.2, 0.3, 0.5, 0.5]
    assert bytes(step.buffers[tensors[2].buffer].data) == b"\x07"


def test_a_step_that_gets_something_else_is_told() -> None:
    whole, step = pair()
    whole.subgraphs[0].operators[2].inputs = np.array([2, 0], np.int32)  # the last step reads what is no state
    labels = ["share", "step.state.add", "step.state.add#2"]
    with pytest.raises(ModelError, match=r"ADD of .* gets other integers in one step than in the whole sequence"):
        take_integers(step, ["share", "step.state.add", "step.state.add#2"], whole, labels)
    whole, step = pair()
    with pytest.raises(ModelError, match="has ADD of other, which the whole sequence lacks"):
        take_integers(step, ["share", "add", "other"], whole, labels)
    whole, _ = pair()
    rounding = (QUANTIZE, [1], 6)
    step = flatbuffer([1.0] * 7, {2: b"\x01"}, [rounding, (FC, [0, 2], 3), (ADD, [3, 1], 4), (ADD, [3, 4], 5)])
    step.subgraphs[0].inputs, step.subgraphs[0].outputs = np.array([0, 1]), np.array([5, 4])
    with pytest.raises(ModelError, match="has a QUANTIZE that the whole sequence lacks"):
        take_integers(step, ["quantize", "share", "add", "step.state.add"], whole, labels)


def gated(way: tuple[int, int], extra: tuple[int, int] | None = None) -> Graph:
    """Returns h + u * (n - h) in two steps; `way` is what the difference is of: 0 the candidate, 1 the state.

    Args:
        way: (0, 1) for n - h.
        extra: Inputs of one more operator behind them.
    """
    # 0 input and candidate, 1 gate, 2 state at first, 3/4/5 difference, share and state; 6/7/8 those of the next step
    scales = (0.1, 1 / 256, 0.02, 0.03, 0.04, 0.02, 0.03, 0.04, 0.05, 0.06)

    def tensor(scale: float) -> TensorSpec:
        return TensorSpec("", np.dtype(np.int8), np.array([scale], np.float32), np.zeros(1, np.int64), 0, None, 8)

    nodes: list[Node] = []

    def node(op: str, label: str, inputs: tuple[int, int] | tuple[int], output: int) -> None:
        nodes.append(Node(len(nodes), op, label, inputs, (output,), {}, ((1, 2),) * len(inputs), ((1, 2),)))

    node("LOGISTIC", "gate", (0,), 1)
    node("SUB", "step.state.sub", (0, 0), 2)
    for count, state in enumerate((2, 5)):
        number, first = f"#{count + 1}", 3 + 3 * count
        pair = (0, state)
        node("SUB", f"step.change.sub{number}", (pair[way[0]], pair[way[1]]), first)
        node("MUL", f"step.take.mul{number}", (1, first), first + 1)
        node("ADD", f"step.state.add{number}", (state, first + 1), first + 2)
    if extra is not None:
        node("MUL", "behind", extra, 9)
    return Graph(tuple(nodes), tuple(map(tensor, scales)), 0, 8 if extra is None else 9)


def test_what_a_gate_adds_to_a_state_is_on_the_grid_of_the_state() -> None:
    groups = tied_groups(gated((0, 1)))
    assert [group.tensors for group in groups] == [(0,), (1,), (2, 4, 5, 7, 8), (3, 6), (9,)]
    state = groups[2]
    assert state.observed == (2, 5, 8), "what is added has no say in the range"
    state.set_range(0.0, 0.5)  # a state that was never negative: what is added to it is
    assert (state.scale, state.zero_point) == (float(np.float32(0.5 / 127)), 0)


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (gated((1, 0)), "h - n leads away from n"),
        (gated((0, 1), (7, 7)), "something else reads what is added"),
    ],
)
def test_what_may_go_further_than_the_state_has_a_grid_of_its_own(graph: Graph, why: str) -> None:
    tensors = [group.tensors for group in tied_groups(graph)]
    assert (4, 7) in tensors, why
    assert (2, 5, 8) in tensors
