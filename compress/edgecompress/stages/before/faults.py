"""Whether a converted file computes what the module does, and where it does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.blame import blaming
from edgecompress.models.conversion import converted_form
from edgecompress.models.origins import origin_of, origins
from edgecompress.tasks.base import Task
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.interpreter import plain_interpreter
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.format.views import graph_views
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import quantize_input
from edgecompress.wording import counted

#: Outputs of file and module are the same within this share of the module's largest one: float32 in another order.
SAME_SHARE = 1e-2
#: Values of one layer, however they are laid out.
SAME_LAYER = 1e-2
#: Operations that draw random numbers.
_DRAWS = re.compile(r"dropout|rand|bernoulli|normal_|multinomial|uniform|poisson")
_NODE = re.compile(r"Node number (\d+)")


def require_same_function(task: Task, model: nn.Module, path: Path, samples: torch.Tensor) -> None:
    """Runs the float file by itself and holds it against the module.

    Args:
        task: Whose data it reads.
        model: The module, on the CPU, in evaluation mode.
        path: The float32 flatbuffer.
        samples: Network inputs.

    Raises:
        ModelError: LiteRT cannot run the file, or it computes something else; the layer is named.
    """
    inputs = task.to_flatbuffer(samples)
    try:
        session = RUNTIMES["litert"].session(path)
        outputs = session.run(quantize_input(np.asarray(inputs), session.input))
    except ModelError as error:
        raise ModelError(
            f"the converter made a file that LiteRT cannot run{_at(error, model, path, samples)}"
        ) from error
    form = converted_form(model)
    with torch.no_grad():
        expected = torch.cat([form(sample[None].clone()) for sample in samples]).float().numpy()
    if outputs.shape == expected.shape and _same(outputs, expected, SAME_SHARE):
        return
    layer = first_fault(model, path, samples[:1], inputs[:1])
    raise ModelError(
        "the converter made a file that does not compute what the network does"
        f"{f': the first layer that differs is {layer}' if layer else ''}. Build that layer from other operators."
    )


def require_repeatable(model: nn.Module, samples: torch.Tensor) -> bool:
    """Runs a module twice on the same input; returns whether it left the input as it was.

    Args:
        model: On the CPU, in evaluation mode.
        samples: Network inputs; they are not changed.

    Raises:
        ModelError: It raises something, or answers otherwise the second time.
    """
    given = samples.clone()
    with torch.no_grad(), blaming(model, f"on {counted(len(samples), 'sample')} at once, before training"):
        first = model(given)
        second = model(samples.clone())
    if not torch.equal(torch.nan_to_num(first), torch.nan_to_num(second)):
        drawn = next((one for one in origins(model, (samples[:1],)) if _DRAWS.search(one.operation)), None)
        raise ModelError(
            "the network gives other answers to the same input in evaluation mode"
            f"{f': {drawn.operation} {drawn}' if drawn is not None else ''}. Random numbers belong in training alone: "
            "F.dropout takes training=self.training, nn.Dropout does by itself."
        )
    return torch.equal(torch.nan_to_num(given.float()), torch.nan_to_num(samples.float()))


def _same(found: NDArray[Any], expected: NDArray[Any], share: float) -> bool:
    if not np.isfinite(expected).all():
        return True  # nothing can be told from it, and training would say so
    return float(np.abs(found - expected).max(initial=0.0)) <= share * max(
        float(np.abs(expected).max(initial=0.0)), 1e-3
    )


def _at(error: ModelError, model: nn.Module, path: Path, samples: torch.Tensor) -> str:
    """Returns which layer an interpreter failed at, and what it said."""
    said = str(error).partition("cannot run it: ")[2]
    flatbuffer = read_model(path)
    ops = graph_views(flatbuffer)[0].ops
    number = _NODE.search(said)
    # What is left of the converter's own language is no operator of LiteRT's.
    own = next((op.index for op in ops if op.op.startswith("STABLEHLO_") and op.op in said), None)
    place = own if own is not None else int(number[1]) if number is not None else len(ops)
    if place >= len(ops):
        return f": {said}"
    labels = operator_labels(flatbuffer, model)
    origin = origin_of(origins(model, (samples[:1],)), labels[place], ops[place].op)
    came = f", which comes from {origin}" if origin is not None else ""
    why = "it has no such operator" if own is not None else said
    return f", at {ops[place].op} (layer {labels[place]}){came}: {why}. Build that part from other operations"


def first_fault(model: nn.Module, path: Path, sample: torch.Tensor, given: NDArray[Any]) -> str:
    """Returns the first layer whose values in the file are not the module's, in any order; "" where none can be named.

    Args:
        model: The module, in evaluation mode.
        path: Its float32 flatbuffer.
        sample: One network input.
        given: The same as the flatbuffer takes it.
    """
    flatbuffer = read_model(path)
    labels = operator_labels(flatbuffer, model)
    values = _tensors(path, given)
    view = graph_views(flatbuffer)[0]
    written: dict[str, list[NDArray[Any]]] = {}
    for op, label in zip(view.ops, labels, strict=True):
        name = re.sub(r"#\d+$", "", label)
        for owner in {name, name.rpartition(".")[0]}:
            written.setdefault(owner, []).extend(values[n] for n in op.outputs if n in values)
    order: list[tuple[str, NDArray[Any]]] = []
    form = converted_form(model)
    hooks = [
        module.register_forward_hook(_keeping(name, order))
        for name, module in form.named_modules()
        if name and not any(True for _ in module.children())
    ]
    try:
        with torch.no_grad():
            form(sample.clone())
    finally:
        for hook in hooks:
            hook.remove()
    for name, expected in order:
        candidates = written.get(name)
        # An activation behind it may be one operator with it.
        forms = [expected, np.maximum(expected, 0.0), np.clip(expected, 0.0, 6.0)]
        if candidates and not any(_as_sets(one, form) for one in candidates for form in forms):
            return f"{name} ({type(dict(model.named_modules()).get(name, nn.Identity())).__name__})"
    return ""


def _keeping(name: str, order: list[tuple[str, NDArray[Any]]]) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            order.append((name, output.detach().float().numpy()))

    return hook


def _as_sets(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    return found.size == expected.size and _same(np.sort(found.ravel()), np.sort(expected.ravel()), SAME_LAYER)


def _tensors(path: Path, given: NDArray[Any]) -> dict[int, NDArray[Any]]:
    """Returns all activations of a flatbuffer for one input."""
    interpreter = plain_interpreter(path.read_bytes(), keep=True)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    found = {}
    for entry in interpreter.get_tensor_details():
        try:
            found[int(entry["index"])] = np.array(interpreter.get_tensor(entry["index"]), np.float32)
        except ValueError:  # never written
            continue
    return found
