"""Keras models as teachers: `keras/FILE`, run by TensorFlow on the CPU beside torch.

Whatever the file's format, the model is traced to one TensorFlow graph with its weights as constants. The graph tells
where it ends in a softmax, so the logits can be taken from before it, and it is what the flatbuffer is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.data.base import Normalization
from edgecompress.errors import ModelError
from edgecompress.models.construction import Shape
from edgecompress.models.libraries.keras_loading import (
    Loaded,
    calm,
    cause,
    explaining_keras,
    load_layers,
    load_program,
    require_tensorflow,
)
from edgecompress.recipe.names import KERAS_INPUTS
from edgecompress.sources.keras import KerasSource, keras_source

__all__ = ["KerasTeacher", "build_keras"]

#: Operators that change no value, between a softmax and the end of the graph.
_PASSING = frozenset({"Identity", "Cast", "EnsureShape", "StopGradient"})
#: Last operators that turn logits into probabilities, monotonously.
_HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
#: Rows that sum to 1 within this are probabilities.
PROBABILITY_TOLERANCE = 1e-3
#: Random inputs on which outputs are looked at.
PROBES = 8
#: What a byte holds at most.
BYTE = 255.0


class KerasTeacher(nn.Module):
    """A Keras model that answers torch tensors: normalised pictures (N, C, H, W) in, logits (N, classes) out.

    It has no gradient and no torch parameters.

    Attributes:
        sha256: Hash of the file it was loaded from.
        outputs: Where the logits are from, in words.
        params: Parameters, statistics of normalisation layers left out.
        nonzero_params: Those that are not zero.
    """

    def __init__(
        self, source: KerasSource, loaded: Loaded, input_shape: Shape, normalization: Normalization | None, kind: str
    ) -> None:
        """Takes the loaded model, and how its input is made from normalised pictures."""
        super().__init__()
        self.sha256 = source.sha256
        self._name, self._kind = source.name, kind
        self._loaded = loaded
        self._picture = (*input_shape[1:], input_shape[0])
        self._single = loaded.shape[0] == 1
        if normalization is not None:
            self._std = torch.tensor(normalization.std, dtype=torch.float32).view(-1, 1, 1)
            self._mean = torch.tensor(normalization.mean, dtype=torch.float32).view(-1, 1, 1)
        frozen = self._traced(1 if self._single else None)
        logits, self.outputs = _logits(frozen)
        self._run = frozen.prune(frozen.inputs, logits)
        self._log = False
        if logits is frozen.outputs[0] and self._are_probabilities():
            self._log, self.outputs = True, "logarithms of the model's probabilities"
        weights = loaded.weights or _constants(frozen)
        self.params = sum(weight.size for weight in weights)
        self.nonzero_params = sum(int(np.count_nonzero(weight)) for weight in weights)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the logits of normalised pictures, float32, where the pictures are."""
        x = inputs.detach().to("cpu", torch.float32)
        if self._kind != "normalized":
            x = (x * self._std + self._mean) * (BYTE if self._kind == "bytes" else 1.0)
        logits = self._outputs(x.permute(0, 2, 3, 1).contiguous().numpy())
        if self._log:
            logits = np.log(np.maximum(logits, np.finfo(np.float32).tiny))
        return torch.from_numpy(logits).to(inputs.device)

    def flatbuffer(self) -> bytes:
        """Returns the model as a float32 flatbuffer, batch size 1, made by TensorFlow's own converter.

        It is the whole model, with its softmax, and takes what the model takes.

        Raises:
            ModelError: TensorFlow could not convert it.
        """
        import tensorflow as tf

        with calm():
            try:
                converter = tf.lite.TFLiteConverter.from_concrete_functions([self._traced(1)])
                return bytes(converter.convert())
            except (KeyboardInterrupt, MemoryError):
                raise
            except Exception as error:  # the converter raises whatever its passes raise
                raise ModelError(
                    f"model {self._name} could not be converted to a flatbuffer: {cause(error)}. Operators without a "
                    "TFLite counterpart cannot be converted."
                ) from error

    def _traced(self, batch: int | None) -> Any:
        """Returns the model's graph for float32 NHWC pictures, with constants for weights."""
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        loaded, rank = self._loaded, len(self._picture) + 1

        def compute(x: Any) -> Any:
            if len(loaded.shape) < rank:  # grey pictures without an axis for their one channel
                x = tf.squeeze(x, -1)
            if loaded.dtype != "float32":
                x = tf.cast(tf.round(x) if tf.as_dtype(loaded.dtype).is_integer else x, loaded.dtype)
            return tf.cast(loaded.call(x), tf.float32)

        with calm(), explaining_keras(self._name, "cannot work on these pictures"):
            function = tf.function(compute, autograph=False)
            concrete = function.get_concrete_function(tf.TensorSpec((batch, *self._picture), tf.float32, name="input"))
            return convert_variables_to_constants_v2(concrete, lower_control_flow=False)

    def _outputs(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        import tensorflow as tf

        size = 1 if self._single else max(len(pictures), 1)
        parts = [
            np.array(self._run(tf.constant(pictures[start : start + size])), np.float32)
            for start in range(0, len(pictures), size)
        ]
        return np.concatenate(parts)

    def _are_probabilities(self) -> bool:
        """Says whether the outputs are probabilities, by what they are for random inputs."""
        noise = np.random.default_rng(0).random((PROBES, *self._picture), np.float32)
        found = self._outputs(noise * BYTE if self._kind == "bytes" else noise)
        return bool((found >= 0).all() and (np.abs(found.sum(1) - 1) <= PROBABILITY_TOLERANCE).all())


def build_keras(
    name: str,
    args: Mapping[str, Any],
    input_shape: Shape,
    num_classes: int,
    *,
    trust: bool,
    base_dir: Path,
    normalization: Normalization | None,
) -> KerasTeacher:
    """Returns the Keras model in a file as a teacher.

    Args:
        name: `keras/FILE`.
        args: `input`, one of `recipe_names.KERAS_INPUTS`.
        input_shape: (C, H, W).
        num_classes: How many scores it must give.
        trust: Whether a file that holds code may be loaded.
        base_dir: The recipe's folder.
        normalization: How the pictures were normalised, to undo it.

    Raises:
        UsageError: It holds code that is not trusted.
        ModelError: It cannot be read, does not fit the data, or TensorFlow is missing.
    """
    kind = args.get("input", "normalized")
    if set(args) - {"input"} or kind not in KERAS_INPUTS:
        raise ModelError(
            f"model {name}: `args` may only have `input`, one of {', '.join(KERAS_INPUTS)}; found {dict(args)}"
        )
    if kind != "normalized" and normalization is None:
        raise ModelError(f"model {name}: `input: {kind}` needs the normalisation of the data, which is not known here")
    if len(input_shape) != 3:  # noqa: PLR2004 - (C, H, W)
        raise ModelError(f"model {name} takes pictures (channels, height, width), not samples of shape {input_shape}")
    source = keras_source(name, base_dir)
    require_tensorflow(name)
    holds_code = source.require_trust(trust)
    loaded = load_program(source) if source.kind == "saved-model" else load_layers(source, safe=not holds_code)
    _check_ends(name, loaded, input_shape, num_classes, kind)
    return KerasTeacher(source, loaded, input_shape, normalization, kind)


def _check_ends(name: str, loaded: Loaded, input_shape: Shape, num_classes: int, kind: str) -> None:
    """Raises ModelError where the model's input does not fit the data, or its output not the classes."""
    channels, height, width = input_shape
    batch, *taken = loaded.shape or (None,)
    fits = [[height, width, channels]] + ([[height, width]] if channels == 1 else [])
    if not any(_matches(taken, sides) for sides in fits):
        raise ModelError(
            f"model {name} takes inputs of {_shown(taken)}, but the data gives pictures of "
            f"{_shown([height, width, channels])} (height x width x channels). Set data.image_size and data.channels "
            "to what it takes."
        )
    if batch not in (None, 1):
        raise ModelError(f"model {name} takes {batch} pictures at a time; save it with a batch size of None or 1")
    if not loaded.dtype.startswith(("float", "bfloat", "int", "uint")):
        raise ModelError(f"model {name} takes {loaded.dtype}; expected numbers")
    if "int" in loaded.dtype and kind != "bytes":
        raise ModelError(
            f"model {name} takes whole numbers ({loaded.dtype}), but `input: {kind}` gives fractions. "
            "Write `args: {input: bytes}`."
        )
    shape = loaded.outputs[0]
    if shape and (len(shape) != 2 or shape[1] not in (None, num_classes)):  # noqa: PLR2004 - (N, classes)
        raise ModelError(
            f"model {name} answers with {_shown(shape[1:])} numbers a picture, but the data has {num_classes} classes; "
            f"expected {num_classes}, one score for each class"
        )


def _matches(taken: list[int | None], given: list[int]) -> bool:
    return len(taken) == len(given) and all(side is None or side == own for side, own in zip(taken, given, strict=True))


def _shown(sides: Any) -> str:
    return " x ".join("any" if side is None else str(side) for side in sides) or "one number"


def _logits(frozen: Any) -> tuple[Any, str]:
    """Returns the tensor of a graph that holds the logits, and where it is, in words."""
    operator = frozen.outputs[0].op
    while operator.type in _PASSING:
        operator = operator.inputs[0].op
    head = _HEADS.get(operator.type)
    if head is not None:
        return operator.inputs[0], f"logits, taken from before the model's {head}"
    return frozen.outputs[0], "the model's outputs as they are"


def _constants(frozen: Any) -> list[NDArray[Any]]:
    """Returns the weights of a graph that was saved without variables: its constants with an axis."""
    import tensorflow as tf

    found = [operator for operator in frozen.graph.get_operations() if operator.type == "Const"]
    values = [tf.make_ndarray(operator.get_attr("value")) for operator in found if operator.outputs[0].shape.rank]
    return [value for value in values if np.issubdtype(value.dtype, np.floating)]
