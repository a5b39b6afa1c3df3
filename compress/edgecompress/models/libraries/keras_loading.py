"""Loading Keras models and SavedModels into TensorFlow, and keeping TensorFlow quiet about it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.errors import ModelError
from edgecompress.quiet import quiet
from edgecompress.sources.border import at_border
from edgecompress.sources.keras import EXPECTED, KerasSource
from edgecompress.wording import counted

#: Statistics that layers keep beside their parameters; torch counts them as buffers.
_STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class Loaded:
    """A model as TensorFlow has it.

    Attributes:
        call: Its computation on a batch.
        shape: Of its input, batch axis first; None where any size will do.
        dtype: Of its input, by name.
        outputs: Shapes of its outputs.
        weights: Its parameters; empty where the graph holds them as constants.
    """

    call: Callable[[Any], Any]
    shape: tuple[int | None, ...]
    dtype: str
    outputs: list[tuple[int | None, ...]]
    weights: list[NDArray[Any]]


def require_tensorflow(name: str) -> None:
    """Starts TensorFlow, on the CPU and with as many threads as torch, where it does not run yet.

    Raises:
        ModelError: It is not installed, or Keras runs on another library.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise ModelError(f"model {name} needs TensorFlow, which is not installed: pip install tensorflow-cpu")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"  # Keras can run on other libraries; the flatbuffer needs this one
    with calm(), explaining_keras(name, "cannot be loaded: TensorFlow does not start"):
        import keras
        import tensorflow as tf

        tf.get_logger().setLevel(logging.ERROR)
        with contextlib.suppress(RuntimeError):  # it is running already
            tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")  # it would take all of its memory, and torch needs some
        backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ModelError(f"model {name} needs Keras on TensorFlow, but here it runs on {backend}: unset KERAS_BACKEND")


def load_layers(source: KerasSource, *, safe: bool) -> Loaded:
    """Returns the model in a .keras or .h5 file."""
    import keras

    with calm(), explaining_keras(source.name, f"Keras {keras.__version__} cannot read {source.path}", EXPECTED):
        model = keras.models.load_model(source.path, compile=False, safe_mode=safe)
        try:
            inputs, outputs = list(model.inputs), list(model.outputs)
        except (AttributeError, TypeError, ValueError):  # it was never given an input
            inputs, outputs = [], []
        model.trainable = True  # a frozen layer's weights are parameters as well
        weights = [np.asarray(variable) for variable in model.trainable_weights]
        _require_finite(source, model)
    _check_single(source.name, len(inputs), len(outputs))
    shapes = [tuple(tensor.shape) for tensor in outputs]
    dtype = keras.backend.standardize_dtype(inputs[0].dtype)
    return Loaded(lambda x: model(x, training=False), tuple(inputs[0].shape), dtype, shapes, weights)


def _require_finite(source: KerasSource, model: Any) -> None:
    """Raises ModelError where weights are no finite numbers; what is not trained may hold infinity, as masks do."""
    learned = {id(variable) for variable in model.trainable_weights}
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind not in "fc":  # numpy knows bfloat16 by another letter
            values = values.astype(np.float32) if "float" in values.dtype.name else np.zeros(0)
        trained = id(variable) in learned or variable.name in _STATISTICS
        if not bool((np.isfinite(values) if trained else ~np.isnan(values)).all()):
            raise ModelError(
                f"model {source.name}: {source.path}: {variable.path} has values that are not finite; the training "
                "that made it failed. Take the model of an epoch before."
            )


def load_program(source: KerasSource) -> Loaded:
    """Returns the computation that a SavedModel serves."""
    import tensorflow as tf

    with calm(), explaining_keras(source.name, f"TensorFlow {tf.__version__} cannot read {source.path}", EXPECTED):
        program = tf.saved_model.load(str(source.path))
    signatures = dict(program.signatures)
    if len(signatures) > 1 and "serving_default" in signatures:
        signatures = {"serving_default": signatures["serving_default"]}
    if len(signatures) != 1:
        raise ModelError(
            f"model {source.name}: {source.path} has {len(signatures)} signatures ({', '.join(signatures) or 'none'}); "
            'expected `serving_default`. model.export("FOLDER") writes it.'
        )
    (serve,) = signatures.values()
    inputs, outputs = serve.structured_input_signature[1], serve.structured_outputs
    _check_single(source.name, len(inputs), len(outputs))
    (key,), (spec,) = inputs.keys(), inputs.values()
    (answer,) = outputs
    shapes = [_sides(output) for output in outputs.values()]
    weights = [
        variable.numpy()
        for variable in serve.variables
        if variable.dtype.is_floating and not any(part in variable.name for part in _STATISTICS)
    ]

    def call(x: Any, _alive: Any = program) -> Any:  # the program owns the variables
        return serve(**{key: x})[answer]

    return Loaded(call, _sides(spec), spec.dtype.name, shapes, weights)


def _sides(spec: Any) -> tuple[int | None, ...]:
    """Returns the shape of a TensorFlow tensor, () where even its rank is open."""
    return tuple(spec.shape.as_list()) if spec.shape.rank is not None else ()


def _check_single(name: str, inputs: int, outputs: int) -> None:
    if inputs != 1 or outputs != 1:
        raise ModelError(
            f"model {name} has {counted(inputs, 'input')} and {counted(outputs, 'output')}; expected one of each: "
            "pictures in, one score per class out"
        )


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """Keeps TensorFlow's announcements, from C++ and Python, off the terminal."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def explaining_keras(name: str, problem: str, hint: str = "") -> Iterator[None]:
    """Turns whatever Keras or TensorFlow raises into an error that names the model."""
    with at_border(lambda error: ModelError(f"model {name}: {problem}: {cause(error)}. {hint}".rstrip())):
        yield


def cause(error: BaseException) -> str:
    """Returns an error's class and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300].rstrip('.!') if lines else 'no message'}"
