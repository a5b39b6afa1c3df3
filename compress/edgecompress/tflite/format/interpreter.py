"""A flatbuffer in LiteRT's plain kernels, where every operator runs by itself."""

from __future__ import annotations

import warnings
from typing import Any

from edgecompress.quiet import quiet


def plain_interpreter(content: bytes, *, keep: bool = False) -> Any:
    """Returns an interpreter without the optimised delegate, its memory taken, in silence.

    Args:
        content: The flatbuffer.
        keep: Whether all tensors are to be read afterwards, and not only what goes in and comes out.

    Raises:
        RuntimeError: LiteRT has no kernel for what it holds; the optimised ones may let more pass.
        ValueError: It is no flatbuffer.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteRT warns that keeping all tensors costs memory; they are what is wanted
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        interpreter = Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=keep,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    return interpreter
