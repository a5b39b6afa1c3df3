"""LiteRT's plain kernels, every tensor kept: what each operator of a flatbuffer makes of a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.tflite.format.interpreter import plain_interpreter

CANNOT = "LiteRT's plain kernels cannot run it: "
#: Takes a flatbuffer, (N, ...) real samples, and tensor numbers; gives the raw values of these, sample by sample.
Keeper = Callable[[bytes, NDArray[Any], Sequence[int]], Iterator[dict[int, NDArray[Any]]]]


def kept_tensors(content: bytes, samples: NDArray[Any], numbers: Sequence[int]) -> Iterator[dict[int, NDArray[Any]]]:
    """Gives the raw values of a flatbuffer's tensors, by number, sample by sample.

    Args:
        content: The flatbuffer.
        samples: (N, ...) inputs in the flatbuffer's layout, not quantized.
        numbers: Of the tensors that are wanted.

    Raises:
        ValueError: The plain kernels cannot run it.
    """
    interpreter = _interpreter(content)
    details = interpreter.get_input_details()[0]
    scale, zero_point = details["quantization"]
    for sample in samples:
        x = sample[None].astype(np.float64)
        if scale:  # token numbers are integers that stand for themselves
            info = np.iinfo(details["dtype"])
            x = np.clip(np.rint(x / scale) + zero_point, info.min, info.max)
        interpreter.set_tensor(details["index"], x.astype(details["dtype"]))
        interpreter.invoke()
        yield {number: np.array(interpreter.get_tensor(number)) for number in numbers}


def _interpreter(content: bytes) -> Any:
    try:
        return plain_interpreter(content, keep=True)
    except RuntimeError as error:  # the optimised kernels let more pass
        raise ValueError(CANNOT + str(error).splitlines()[0]) from error
