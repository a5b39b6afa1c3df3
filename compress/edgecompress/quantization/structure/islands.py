"""Operators that the quantizer leaves in float although they have an INT8 kernel: the islands they make are taken out.

The quantizer puts DEQUANTIZE before and QUANTIZE behind every operator it does not know. Where the operator has an INT8
kernel, both go and the operator works on the integers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.quantization.graph.exchange import replace_values, set_quantization
from edgecompress.quantization.graph.ops import COMPARING, PASS_THROUGH
from edgecompress.quantization.grids.ranges import scale_and_zero_point
from edgecompress.tflite.format.finish import operator_code
from edgecompress.tflite.format.views import op_name, text

#: Operators with an INT8 kernel whose output has a scale of its own.
OWN_SCALE = frozenset({"ABS", "ELU", "EXP", "LEAKY_RELU", "LOG", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"})
#: Operators whose INT8 kernel only selects values, so that input and output carry one scale.
SAME_SCALE = frozenset({"DEPTH_TO_SPACE", "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REVERSE_V2", "TILE", "TOPK_V2"})
#: Operators whose INT8 kernel demands one grid for its output -> scale and zero point (Prepare in
#: tensorflow/lite/kernels/activations.cc refuses any other).
FIXED_GRID = {"LOG_SOFTMAX": (16.0 / 256.0, 127)}
#: Constants that are compared with end here: activations that kernels compare have a range of 255 at most, so what is
#: larger, or infinite, is beyond all of them. LiteRT ends the process at a scale that holds more.
MOST_COMPARED = 254.0
#: Copies rows of a table: with an INT8 table they are INT8, on the table's scale.
EMBEDDING = "EMBEDDING_LOOKUP"


def remove_islands(model: schema.ModelT, kept: frozenset[str] = frozenset()) -> int:
    """Makes operators with an INT8 kernel work on integers, in place; returns how many.

    New INT8 tensors get the scale of the operator's input, for whoever calibrates to replace.

    Args:
        model: The quantized flatbuffer.
        kept: Names of outputs whose operators are to stay as they are.
    """
    graph = _Graph(model)
    count = 0
    for operator in list(model.subgraphs[0].operators):
        name = graph.name(operator)
        if graph.output_name(operator) in kept:
            continue
        if name == EMBEDDING:
            count += graph.store_table(operator) or graph.widen_behind_table(operator)
        elif name in {*OWN_SCALE, *SAME_SCALE, *FIXED_GRID, *COMPARING}:
            count += graph.free(operator, same_scale=name in SAME_SCALE)
    if count:
        graph.drop_unused()
    return count


@dataclass
class _Graph:
    """A flatbuffer's first graph, being changed."""

    model: schema.ModelT

    def __post_init__(self) -> None:
        self._graph = self.model.subgraphs[0]

    def name(self, operator: schema.OperatorT) -> str:
        """Returns an operator's name."""
        return op_name(self.model, operator)

    def output_name(self, operator: schema.OperatorT) -> str:
        """Returns the name of what an operator writes."""
        return text(self._graph.tensors[int(operator.outputs[0])].name)

    def free(self, operator: schema.OperatorT, *, same_scale: bool) -> bool:
        """Takes an operator out of its island; returns whether that could be done."""
        made = {int(op.outputs[0]): op for op in self._graph.operators if self.name(op) == "DEQUANTIZE"}
        floats = [int(n) for n in operator.inputs if n >= 0 and self._is_float(int(n))]
        constants = [n for n in floats if n not in made and self._values(n) is not None]
        if len(constants) == len(floats) or any(n not in made and n not in constants for n in floats):
            return False
        if any(self._is_float(int(n)) for n in operator.outputs[1:]):  # places beside the values are whole numbers
            return False
        sources = {n: int(made[n].inputs[0]) for n in floats if n in made}
        if any(self._graph.tensors[n].type != schema.TensorType.INT8 for n in sources.values()):
            return False  # wider integers have fewer kernels
        grids = {self._grid(n) for n in sources.values()}
        if same_scale and len(grids) > 1:
            grid = next(iter(grids))
            sources = {n: self._requantized(source, grid, operator) for n, source in sources.items()}
            grids = {grid}
        for n in constants:
            compares = self.name(operator) in COMPARING
            sources[n] = self._stored(n, next(iter(grids)) if same_scale else None, MOST_COMPARED if compares else None)
        operator.inputs = np.array([sources.get(int(n), int(n)) for n in operator.inputs], np.int32)
        if self._is_float(int(operator.outputs[0])):  # comparisons answer with truth values
            self._give_output(operator, sources[next(n for n in floats if n in made)], same_scale=same_scale)
        return True

    def _requantized(self, source: int, grid: tuple[float, int], before: schema.OperatorT) -> int:
        """Returns the number of a new tensor with an INT8 tensor's values on another grid; two ranges become one."""
        graph = self._graph
        tensor = copy.deepcopy(graph.tensors[source])
        graph.tensors.append(tensor)
        added = len(graph.tensors) - 1
        tensor.name = f"{text(tensor.name)}_requantized{added}".encode()
        self._set_grid(added, *grid)
        converts = schema.OperatorT()
        converts.opcodeIndex = operator_code(self.model, schema.BuiltinOperator.QUANTIZE)
        converts.inputs, converts.outputs = np.array([source], np.int32), np.array([added], np.int32)
        converts.builtinOptionsType = 0
        graph.operators.insert(graph.operators.index(before), converts)
        return added

    def _values(self, number: int) -> NDArray[np.float32] | None:
        """Returns the values of a float constant, None for what is none."""
        data = self.model.buffers[self._graph.tensors[number].buffer].data
        return None if data is None or len(data) == 0 else np.frombuffer(bytes(data), np.float32)

    def _stored(self, number: int, grid: tuple[float, int] | None, most: float | None = None) -> int:
        """Returns the number of a new INT8 tensor that holds a float constant, on a grid or on one that fits it.

        Args:
            number: The constant.
            grid: Scale and zero point.
            most: Values further from zero end there.
        """
        values = self._values(number)
        assert values is not None  # noqa: S101 - it was seen to be a constant
        values = values if most is None else np.clip(values, -most, most)
        scale, zero_point = grid or scale_and_zero_point(float(values.min()), float(values.max()))
        tensor = copy.deepcopy(self._graph.tensors[number])
        tensor.type, tensor.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        self._graph.tensors.append(tensor)
        added = len(self._graph.tensors) - 1
        tensor.name = f"{text(tensor.name)}_{added}".encode()  # as the quantizer calls its copies
        self._set_grid(added, scale, zero_point)
        integers = np.clip(np.rint(values.astype(np.float64) / scale) + zero_point, -128, 127)
        replace_values(self.model, tensor, integers.astype(np.int8))
        return added

    def store_table(self, operator: schema.OperatorT) -> bool:
        """Stores an embedding's table as INT8, on the scale of what is read from it; returns whether it was float.

        Where that is INT16 the table has a scale of its own, and its rows are converted behind it.
        """
        graph, (_, table), output = self._graph, map(int, operator.inputs), int(operator.outputs[0])
        users = [op for op in graph.operators if output in [int(n) for n in op.inputs]]
        quantizes = [op for op in users if self.name(op) == "QUANTIZE"]
        if not self._is_float(table) or not quantizes or len(quantizes) < len(users):
            return False
        stored = copy.deepcopy(graph.tensors[table])
        target = int(quantizes[0].outputs[0])
        floats = np.frombuffer(bytes(self.model.buffers[stored.buffer].data), np.float32)
        stored.type = schema.TensorType.INT8
        stored.quantization = copy.deepcopy(graph.tensors[target].quantization)
        graph.tensors.append(stored)
        number = len(graph.tensors) - 1
        narrow = graph.tensors[target].type == schema.TensorType.INT8
        if not narrow:
            self._set_grid(number, *scale_and_zero_point(float(floats.min()), float(floats.max())))
        scale, zero_point = self._grid(number)
        buffer = schema.BufferT()
        buffer.data = np.clip(np.rint(floats / scale) + zero_point, -128, 127).astype(np.int8).view(np.uint8)
        self.model.buffers.append(buffer)
        stored.buffer = len(self.model.buffers) - 1
        operator.inputs = np.array([operator.inputs[0], number], np.int32)
        if narrow:
            operator.outputs = quantizes[0].outputs
            graph.operators.remove(quantizes[0])
        else:
            operator.outputs = np.array([self._rows_of(number, output)], np.int32)
        for other in quantizes[1:] if narrow else quantizes:  # from one scale to another
            other.inputs = operator.outputs
        return True

    def widen_behind_table(self, operator: schema.OperatorT) -> bool:
        """Lets an embedding write INT8 rows of its INT8 table, which then become INT16; returns whether it wrote INT16.

        The kernel copies rows without a look at the types: INT16 rows of an INT8 table are whatever lies in memory.
        """
        graph, table, output = self._graph, int(operator.inputs[1]), int(operator.outputs[0])
        types = graph.tensors[table].type, graph.tensors[output].type
        if types != (schema.TensorType.INT8, schema.TensorType.INT16):
            return False
        operator.outputs = np.array([self._rows_of(table, output)], np.int32)
        widens = schema.OperatorT()
        widens.opcodeIndex = operator_code(self.model, schema.BuiltinOperator.QUANTIZE)
        widens.inputs, widens.outputs = operator.outputs, np.array([output], np.int32)
        widens.builtinOptionsType = 0
        graph.operators.insert(graph.operators.index(operator) + 1, widens)
        return True

    def _rows_of(self, table: int, output: int) -> int:
        """Returns the number of a new tensor, for rows of a table in place of another output."""
        rows = copy.deepcopy(self._graph.tensors[output])
        rows.name = f"{text(rows.name)}_int8".encode()
        rows.type = schema.TensorType.INT8
        rows.quantization = copy.deepcopy(self._graph.tensors[table].quantization)
        self._graph.tensors.append(rows)
        return len(self._graph.tensors) - 1

    def _give_output(self, operator: schema.OperatorT, source: int, *, same_scale: bool) -> None:
        """Replaces an operator's float output by an INT8 one."""
        graph, floating = self._graph, int(operator.outputs[0])
        users = [op for op in graph.operators if floating in [int(n) for n in op.inputs]]
        fixed = FIXED_GRID.get(self.name(operator))
        if len(users) == 1 and self.name(users[0]) == "QUANTIZE" and not same_scale:
            target = int(users[0].outputs[0])
            # Behind a fixed grid the conversion stays where a reader passes values on with the scale it was given.
            if fixed is None or not self._passed_on(target):
                operator.outputs = np.array([target, *operator.outputs[1:]], np.int32)
                graph.operators.remove(users[0])
                if fixed is not None:
                    self._set_grid(target, *fixed)
                return
        tensor = copy.deepcopy(graph.tensors[floating])
        tensor.name = f"{text(tensor.name)}_int8".encode()
        tensor.type = schema.TensorType.INT8
        tensor.quantization = copy.deepcopy(graph.tensors[source].quantization)
        graph.tensors.append(tensor)
        number = len(graph.tensors) - 1
        if fixed is not None:
            self._set_grid(number, *fixed)
        operator.outputs = np.array([number, *operator.outputs[1:]], np.int32)
        for user in users:
            if self.name(user) == "QUANTIZE":  # from one scale to another, without a detour through float
                user.inputs = np.array([number], np.int32)
        back = copy.deepcopy(next(op for op in graph.operators if self.name(op) == "DEQUANTIZE"))
        back.inputs, back.outputs = np.array([number], np.int32), np.array([floating], np.int32)
        graph.operators.insert(graph.operators.index(operator) + 1, back)

    def drop_unused(self) -> None:
        """Removes conversions to float that nothing reads any more."""
        graph = self._graph
        read = {int(n) for op in graph.operators for n in op.inputs} | {int(n) for n in graph.outputs}
        graph.operators = [op for op in graph.operators if self.name(op) != "DEQUANTIZE" or int(op.outputs[0]) in read]

    def _passed_on(self, number: int) -> bool:
        return any(
            self.name(op) in PASS_THROUGH for op in self._graph.operators if number in [int(n) for n in op.inputs]
        )

    def _set_grid(self, number: int, scale: float, zero_point: int) -> None:
        set_quantization(self._graph.tensors[number], np.array([scale], np.float32), np.array([zero_point], np.int64))

    def _is_float(self, number: int) -> bool:
        return bool(self._graph.tensors[number].type == schema.TensorType.FLOAT32)

    def _grid(self, number: int) -> tuple[float, int]:
        q = self._graph.tensors[number].quantization
        return float(q.scale[0]), int(q.zeroPoint[0])
