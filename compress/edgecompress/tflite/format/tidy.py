"""What the converter leaves in a form that others do not take: the same computation, as they do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.tflite.format.affine import join_scales_and_shifts
from edgecompress.tflite.format.finish import drop_unused, operator_code
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.folding import fold_constants
from edgecompress.tflite.format.views import WEIGHTED_OPS, op_name

_OPS = schema.BuiltinOperator
_OPTIONS = {_OPS.ADD: "AddOptions", _OPS.MUL: "MulOptions", _OPS.SELECT_V2: "SelectV2Options"}
#: Types of whole numbers that LiteRT computes in.
_WHOLE = tuple(getattr(schema.TensorType, name) for name in ("INT8", "INT16", "INT32", "INT64", "UINT8"))
#: What is larger stands for infinity; the converter writes minus infinity as the least float32.
BEYOND = 1e30
#: Whole exponents up to this one become products.
LARGEST_POWER = 4


def tidied(content: bytes, outputs: Sequence[str] = ()) -> bytes:
    """Returns a float32 flatbuffer in operators and shapes that the quantizer and INT8 kernels take.

    The converter folds a batch norm or a layer's scale into a bias of shape (1, 1, 1, channels): it becomes a vector.
    A division by a constant becomes a product: the INT8 kernel of DIV is slow, and wrong for the smallest quotients.
    A mask that adds minus infinity chooses instead: no scale holds infinity and the other values as well.
    What is computed from constants alone becomes a constant. A batch norm that nothing could be folded into becomes one
    operator.
    POW has no INT8 kernel: a known exponent becomes products, roots, or an exponential of a multiple of the logarithm,
    a known base the exponential of a product.
    Truth values become numbers by a choice between one and zero: CAST has no INT8 kernel.

    Args:
        content: As the converter made it.
        outputs: Names for its outputs, where it has several.
    """
    model = read_model(content)
    changed = 0
    for graph in model.subgraphs:
        changed += fold_constants(graph, model)
        changed += _flatten_biases(graph, model)
        changed += _spell_out_powers(graph, model)
        changed += _choose_by_truth(graph, model)
        changed += _choose_by_masks(graph, model)
        changed += _multiply_by_reciprocals(graph, model)
        changed += join_scales_and_shifts(graph, model)
    changed += _name_outputs(model, outputs)
    if not changed:
        return content
    drop_unused(model)
    return write_model(model)


def _name_outputs(model: schema.ModelT, names: Sequence[str]) -> int:
    """Gives a signature's outputs their names in the network."""
    numbers = [int(n) for n in model.subgraphs[0].outputs]
    for signature in model.signatureDefs or []:
        for entry in signature.outputs if names else ():
            entry.name = names[numbers.index(int(entry.tensorIndex))].encode()
    return len(names)


def _flatten_biases(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    changed = 0
    for operator in graph.operators:
        place = WEIGHTED_OPS.get(op_name(model, operator), (None, None))[1]
        if place is None or len(operator.inputs) <= place or operator.inputs[place] < 0:
            continue
        bias = graph.tensors[int(operator.inputs[place])]
        size = int(np.prod(bias.shape)) if bias.shape is not None else 1
        if bias.shape is None or len(bias.shape) == 1 or int(bias.shape[-1]) != size:
            continue
        flat = copy.copy(bias)
        flat.shape = np.array([size], np.int32)
        flat.name = bytes(bias.name) + b"_flat"
        graph.tensors.append(flat)
        operator.inputs = np.array(operator.inputs, np.int32)
        operator.inputs[place] = len(graph.tensors) - 1
        changed += 1
    return changed


def _spell_out_powers(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    changed = 0
    for operator in list(graph.operators):
        if op_name(model, operator) != "POW":
            continue
        x, y = (int(n) for n in operator.inputs)
        base, exponent = _values(model, graph.tensors[x]), _scalar(model, graph.tensors[y])
        steps = Steps(graph, model, operator)
        if exponent is None:
            if base is None or not base.size or not np.isfinite(base).all() or base.min() <= 0:
                continue
            steps.add(_OPS.EXP, [steps.add(_OPS.MUL, [y, steps.tensor(np.log(base), graph.tensors[x])])])
        elif exponent in range(2, LARGEST_POWER + 1):
            found = x
            for _ in range(int(exponent) - 1):
                found = steps.add(_OPS.MUL, [found, x])
        elif exponent in (0.5, -0.5):
            steps.add(_OPS.SQRT if exponent > 0 else _OPS.RSQRT, [x])
        else:
            scaled = steps.add(_OPS.MUL, [steps.add(_OPS.LOG, [x]), steps.constant(exponent)])
            steps.add(_OPS.EXP, [scaled])
        steps.replace()
        changed += 1
    return changed


def _choose_by_truth(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    changed = 0
    casts = {int(op.outputs[0]): int(op.inputs[0]) for op in graph.operators if op_name(model, op) == "CAST"}
    for operator in list(graph.operators):
        if op_name(model, operator) != "CAST" or _type(graph, operator.outputs[0]) != schema.TensorType.FLOAT32:
            continue
        x = int(operator.inputs[0])
        while x in casts and _type(graph, casts[x]) in (schema.TensorType.BOOL, *_WHOLE) and _type(graph, x) in _WHOLE:
            x = casts[x]  # by way of whole numbers, which hold zero and one
        if _type(graph, x) != schema.TensorType.BOOL:
            continue
        steps = Steps(graph, model, operator)
        steps.add(_OPS.SELECT_V2, [x, steps.constant(1.0), steps.constant(0.0)])
        steps.replace()
        changed += 1
    if changed:
        _drop_unread_casts(graph, model)
    return changed


def _drop_unread_casts(graph: schema.SubGraphT, model: schema.ModelT) -> None:
    before = -1
    while before != len(graph.operators):
        before = len(graph.operators)
        read = {int(n) for op in graph.operators for n in op.inputs} | {int(n) for n in graph.outputs}
        graph.operators = [op for op in graph.operators if op_name(model, op) != "CAST" or int(op.outputs[0]) in read]


def _type(graph: schema.SubGraphT, number: int) -> int:
    return int(graph.tensors[int(number)].type)


def _choose_by_masks(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    changed = 0
    for operator in list(graph.operators):
        if op_name(model, operator) != "ADD" or _fused(operator):  # a choice has no activation
            continue
        first, second = (int(n) for n in operator.inputs)
        values = _values(model, graph.tensors[second])
        x, mask = (first, second) if values is not None else (second, first)
        values = _values(model, graph.tensors[mask])
        if values is None or values.size == 0 or float(values.min()) > -BEYOND or float(values.max()) >= BEYOND:
            continue
        steps = Steps(graph, model, operator)
        lowest = values <= -BEYOND
        finite = np.where(lowest, np.float32(0), values)
        if finite.any():
            x = steps.add(_OPS.ADD, [x, steps.tensor(finite, graph.tensors[mask])])
        fill = steps.constant(float(np.finfo(np.float32).min))
        steps.add(_OPS.SELECT_V2, [steps.tensor(lowest, graph.tensors[mask]), fill, x])
        steps.replace()
        changed += 1
    return changed


def _multiply_by_reciprocals(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    changed = 0
    for operator in graph.operators:
        if op_name(model, operator) != "DIV":
            continue
        divisor = graph.tensors[int(operator.inputs[1])]
        values = _values(model, divisor)
        if values is None or not values.size or not np.isfinite(values).all() or not values.all():
            continue
        fused = _fused(operator)
        reciprocals = Steps(graph, model, operator).tensor(np.float32(1) / values, divisor)
        operator.inputs = np.array([operator.inputs[0], reciprocals], np.int32)
        operator.opcodeIndex = operator_code(model, _OPS.MUL)
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
        operator.builtinOptions.fusedActivationFunction = fused
        changed += 1
    return changed


def _fused(operator: schema.OperatorT) -> int:
    """Returns an operator's fused activation, 0 for none."""
    return int(operator.builtinOptions.fusedActivationFunction) if operator.builtinOptions is not None else 0


def _values(model: schema.ModelT, tensor: schema.TensorT) -> NDArray[np.float32] | None:
    """Returns the values of a float constant, None for any other tensor."""
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None or not len(data):
        return None
    return np.frombuffer(bytes(data), np.float32)


def _scalar(model: schema.ModelT, tensor: schema.TensorT) -> float | None:
    """Returns the value of a float constant that holds one, None for any other tensor."""
    values = _values(model, tensor)
    return None if values is None or values.size != 1 else float(values[0])


class Steps:
    """Operators in place of one, each with an output like its output; the last one writes that."""

    def __init__(self, graph: schema.SubGraphT, model: schema.ModelT, operator: schema.OperatorT) -> None:
        """Begins with none: `operator` stays until `replace`."""
        self._graph, self._model, self._operator = graph, model, operator
        self._like = graph.tensors[int(operator.outputs[0])]
        self._made: list[schema.OperatorT] = []

    def add(self, builtin: int, inputs: list[int], fused: int = 0) -> int:
        """Appends an operator and returns the number of what it writes.

        Args:
            builtin: The operator, by the schema's number.
            inputs: Numbers of tensors.
            fused: Its fused activation, by the schema's number.
        """
        output = copy.deepcopy(self._like)
        output.name = bytes(output.name) + f"/{len(self._made)}".encode()
        self._graph.tensors.append(output)
        made = schema.OperatorT()
        made.opcodeIndex = operator_code(self._model, builtin)
        made.inputs = np.array(inputs, np.int32)
        made.outputs = np.array([len(self._graph.tensors) - 1], np.int32)
        if builtin in _OPTIONS:
            name = _OPTIONS[builtin]
            made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            made.builtinOptions = getattr(schema, f"{name}T")()
        if fused:
            made.builtinOptions.fusedActivationFunction = fused
        self._made.append(made)
        return len(self._graph.tensors) - 1

    def constant(self, value: float) -> int:
        """Returns the number of a new scalar."""
        like = schema.TensorT()
        like.name, like.shape, like.hasRank = bytes(self._like.name), [], True
        return self.tensor(np.array([value], np.float32), like)

    def tensor(self, values: NDArray[Any], like: schema.TensorT) -> int:
        """Returns the number of a new constant, float32 or truth values, of the shape of another tensor."""
        tensor, buffer = copy.deepcopy(like), schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        tensor.type = schema.TensorType.BOOL if values.dtype == np.bool_ else schema.TensorType.FLOAT32
        tensor.name = bytes(like.name) + f"/constant{len(self._graph.tensors)}".encode()
        tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def replace(self) -> None:
        """Puts the operators in place of the one."""
        self._made[-1].outputs = self._operator.outputs
        at = self._graph.operators.index(self._operator)
        self._graph.operators[at : at + 1] = self._made
