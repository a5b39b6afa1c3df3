"""LiteRT's plain kernels, every tensor kept: what each operator of a flatbuffer makes of a sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.quiet import quiet

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
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteRT warns that keeping all tensors costs memory; they are what is wanted
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # Without the optimised delegate every operator runs by itself and its output can be read.
        try:
            interpreter = Interpreter(
                model_content=content,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            interpreter.allocate_tensors()
        except RuntimeError as error:  # the optimised kernels let more pass
            raise ValueError(CANNOT + str(error).splitlines()[0]) from error
    return interpreter
