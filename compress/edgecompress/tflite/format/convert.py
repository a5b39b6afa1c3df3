"""From a torch module to a float32 flatbuffer, by litert-torch."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from edgecompress.errors import ModelError, ResourceError
from edgecompress.machine import why_no_conversion
from edgecompress.models.conversion import converted_form
from edgecompress.quiet import quiet
from edgecompress.store.files import write_bytes


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
    frozen = converted_form(copy.deepcopy(model).to("cpu", torch.float32).eval())
    for parameter in frozen.parameters():
        parameter.requires_grad = False
    frozen = frozen.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import litert_torch
            from litert_torch import config

            config.show_progress = False
            _calm_loggers()
            module = litert_torch.to_channel_last_io(frozen, args=[0]) if channels_last else frozen
            if channels_last:
                # As it was written for: `x.view(x.size(0), -1)` is refused where numbers lie otherwise.
                frozen.register_forward_pre_hook(_contiguous)
            edge = litert_torch.convert(module, inputs)
            content = edge.model_content()
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:  # the converter raises whatever its layers raise
            cause = str(error).strip().splitlines()
            raise ModelError(
                f"the model could not be converted to a flatbuffer: {type(error).__name__}: "
                f"{cause[0] if cause else 'no message'}. Data-dependent control flow and operators without a TFLite "
                "counterpart cannot be converted; run.log has the details."
            ) from error
    write_bytes(path, bytes(content))


def _contiguous(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    # A copy, which the converter drops: with one channel `contiguous` does nothing, and the strides remain.
    return (inputs[0].clone(memory_format=torch.contiguous_format), *inputs[1:])


def _calm_loggers() -> None:
    # The exporters log each pass at INFO and WARNING; failures still arrive as exceptions.
    for name in ("torch.export", "torch._dynamo", "torch.fx", "litert_torch", "torchao", "jax", "absl", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
