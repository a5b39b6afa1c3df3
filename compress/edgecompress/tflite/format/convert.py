"""From a torch module to a float32 flatbuffer, by litert-torch."""

from __future__ import annotations

import copy
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.errors import ModelError, ResourceError
from edgecompress.machine import why_no_conversion
from edgecompress.models.conversion import converted_form
from edgecompress.models.origins import find_origin, frames_of, origins
from edgecompress.models.outputs import flatten_outputs, output_names
from edgecompress.quiet import quiet
from edgecompress.store.files import write_bytes
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.tidy import tidied
from edgecompress.tflite.lowering import caches, operators

#: How litert-torch says that it cannot lower an operation.
_MISSING = re.compile(r"[Ll]owering not found: (\S+?)(?:\.default)?(?=[.\s]*$|\s)", re.MULTILINE)
#: How its passes say what they refuse, and where in Python that comes from; and that they give no reason.
_REFUSED = re.compile(r"(\S+\.py:\d+):\d+: error: .*?'((?:tfl|mhlo|stablehlo|chlo)\.\w+)'")
_SPEECHLESS = ("Failed to export flatbuffer", "Failed to run converter passes")
#: How it says that an operation gives complex numbers, or numbers of 64 bits; and torch's operations that do so.
_COMPLEX = re.compile(r"complex(?:32|64|128)|\bFFT\b|_fft_|view_as_(?:complex|real)|aten\.(?:complex|polar)\b")
_DOUBLE = re.compile(r"xf64\b|float64|torch\.double")
_TO_DOUBLE = re.compile(r"aten\._to_copy|aten\.to\b|prims\.convert_element_type")

_COMPLEX_TYPES = (schema.TensorType.COMPLEX64, schema.TensorType.COMPLEX128)


class IOWrapper(nn.Module):
    """A network as the flatbuffer has it: its first input NHWC where that is a picture.

    The network sees contiguous NCHW, as it was written for: `x.view` asks for that.
    """

    def __init__(self, wrapped: nn.Module, *, channels_last: bool) -> None:
        """Takes the network."""
        super().__init__()
        self.wrapped, self.channels_last = wrapped, channels_last

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> object:
        """Returns what the network does."""
        if self.channels_last:
            # A copy, which the converter drops: with one channel `contiguous` does nothing, and the strides remain.
            x = x.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        return self.wrapped(x, *others)


def check_converter() -> None:
    """Looks for the converter, without loading it.

    Raises:
        ResourceError: It is not there; the message says why and what works without.
    """
    missing = why_no_conversion()
    if missing:
        raise ResourceError(missing)


def convert(model: nn.Module, input_shape: tuple[int, ...], path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes the float32 flatbuffer of a module, batch size 1; pictures go in as NHWC.

    Args:
        model: The module, as trained; it is copied, not changed.
        input_shape: Shape of one sample: (C, H, W) for pictures, (features,) or (steps, features) otherwise.
        path: Where the flatbuffer goes.
        dtype: Of the input; token numbers are int32.

    Raises:
        ModelError: litert-torch could not convert the module.
        ResourceError: There is no litert-torch here.
    """
    channels_last = len(input_shape) == 3  # noqa: PLR2004 - (C, H, W)
    sample_shape = (*input_shape[1:], input_shape[0]) if channels_last else input_shape
    convert_inputs(model, (torch.zeros(1, *sample_shape, dtype=dtype),), path, channels_last=channels_last)


def convert_inputs(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, *, channels_last: bool = False
) -> None:
    """Writes the float32 flatbuffer of a module with any number of inputs and outputs.

    Args:
        model: The module; it is copied, not changed.
        inputs: One sample of each input.
        path: Where the flatbuffer goes.
        channels_last: Whether the first input is NHWC, where the module takes NCHW.

    Raises:
        ModelError: litert-torch could not convert the module.
        ResourceError: There is no litert-torch here.
    """
    check_converter()
    frozen = converted_form(_python_form(copy.deepcopy(model).to("cpu", torch.float32).eval(), inputs, channels_last))
    for parameter in frozen.parameters():
        parameter.requires_grad = False
    frozen = frozen.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    several = flatten_outputs(frozen)
    module: nn.Module = IOWrapper(frozen, channels_last=channels_last) if channels_last or several else frozen
    names = _names(frozen, inputs, channels_last) if several else []
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import litert_torch
            from litert_torch import config
            from litert_torch.backend.jax_bridge import _wrap
            from litert_torch.fx_infra import decomp

            config.show_progress = False
            operators.install(decomp)
            caches.install(_wrap)
            _calm_loggers()
            with caches.at_ease():
                edge = litert_torch.convert(module, inputs)
            content = edge.model_content()
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:  # the converter raises whatever its layers raise
            raise ModelError(
                f"the model could not be converted to a flatbuffer: {_explained(error, module, inputs)}"
            ) from error
    if any(tensor.type in _COMPLEX_TYPES for graph in read_model(content).subgraphs for tensor in graph.tensors):
        raise ModelError(f"the model could not be converted to a flatbuffer: {_without_complex(module, inputs)}")
    write_bytes(path, tidied(bytes(content), names))


def _names(model: nn.Module, inputs: tuple[torch.Tensor, ...], channels_last: bool) -> list[str]:
    """Returns the names of a flattened network's outputs, in order."""
    kept: list[Any] = []
    hook = model.register_forward_hook(lambda _module, _inputs, output: kept.append(output), prepend=True)
    first = inputs[0].permute(0, 3, 1, 2).contiguous() if channels_last else inputs[0]
    with torch.no_grad():
        model(first, *inputs[1:])
    hook.remove()
    return output_names(model, kept[0])


def _python_form(model: nn.Module, inputs: tuple[torch.Tensor, ...], channels_last: bool) -> nn.Module:
    """Returns a module as torch.export takes it: compiled ones as they were, TorchScript as the program it holds."""
    while hasattr(model, "_orig_mod"):
        model = model._orig_mod  # type: ignore[assignment]  # noqa: SLF001 - torch.compile keeps the module there
    if not isinstance(model, torch.jit.ScriptModule):
        return model
    from torch._export.converter import TS2EPConverter

    first = inputs[0].permute(0, 3, 1, 2).contiguous() if channels_last else inputs[0]
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = TS2EPConverter(model, (first, *inputs[1:])).convert()
        module: nn.Module = program.module()
    return module


def _explained(error: Exception, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> str:
    """Returns what stood in the way, where in the user's code, and what to do about it."""
    said = (str(error).strip().splitlines() or ["no message"])[0].rstrip(".!")
    missing = _MISSING.search(str(error))
    if _COMPLEX.search(said) or (missing is not None and _COMPLEX.search(missing[1])):
        return _without_complex(model, inputs)
    if _DOUBLE.search(said):
        origin = next((one for one in origins(model, inputs) if _TO_DOUBLE.search(one.operation)), None)
        place = f" ({origin})" if origin is not None else ""
        return f"float64 has no counterpart in a flatbuffer{place}. Compute in float32: `x.float()`, not `x.double()`."
    if missing is not None:
        origin = find_origin(origins(model, inputs), missing[1])
        place = f" ({origin})" if origin is not None else ""
        return (
            f"{missing[1]} has no counterpart in a flatbuffer{place}. Build that part from other operations, or do it "
            "before the network, where data are prepared."
        )
    place = frames_of(error)
    if "data-dependent" in said.lower() or "GuardOnDataDependent" in type(error).__name__:
        return (
            f"it decides by the values of its input what to compute{f' ({place})' if place else ''}, and a flatbuffer "
            "computes the same operations for all inputs. Leave the condition out, or use torch.where."
        )
    where = f" ({place})" if place else ""
    refused = _REFUSED.search(str(error))
    if refused is not None or said.startswith(_SPEECHLESS):
        what = f"{refused[2]} at {refused[1]}" if refused is not None else f"something, without saying what{where}"
        return (
            f"the converter refuses {what}. Build that part from other operations, of fewer axes where it has "
            "five or more; run.log has the details."
        )
    return f"{type(error).__name__}: {said}{where}. run.log has the details."


def _without_complex(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> str:
    """Returns where complex numbers come up, and what to do about it."""
    origin = next((one for one in origins(model, inputs) if _COMPLEX.search(one.operation)), None)
    place = f" ({origin})" if origin is not None else ""
    return (
        f"complex numbers have no counterpart in a flatbuffer{place}. Transform the data before the network, where "
        "they are prepared, or compute with real numbers alone: a Fourier transform is a product with a constant "
        "matrix of cosines, and one with a matrix of sines."
    )


def _calm_loggers() -> None:
    # The exporters log each pass at INFO and WARNING; failures still arrive as exceptions.
    for name in ("torch.export", "torch._dynamo", "torch.fx", "litert_torch", "torchao", "jax", "absl", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
