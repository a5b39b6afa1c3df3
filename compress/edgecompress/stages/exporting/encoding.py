"""Which of its two encodings the flatbuffer is shipped in: weights with their zeros, or without them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import ModelError
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.base import Workbench
from edgecompress.tflite.format.flatbuffer import packed_sizes, read_model
from edgecompress.tflite.format.sparse import expanded_bytes
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import random_values

#: The sparse encoding has to bring a file down to this share, or it is not worth another operator.
WORTH_SHARE = 0.98
#: Random inputs on which both encodings must give the same outputs.
TRIALS = 8
Finished = tuple[bytes, list[str]]


def encoded(bench: Workbench, finished: Callable[[bool], Finished]) -> tuple[bytes, list[str], dict[str, int] | None]:
    """Returns the flatbuffer to ship, its operators' layers, and what its sparse encoding does (None: it has none).

    Args:
        bench: Warned of what zeros do to the file.
        finished: Makes the flatbuffer with its layers' names, without the zeros or with them.
    """
    recipe = bench.recipe
    dense, names = finished(False)
    if not recipe.may_be_sparse:
        _tell_dense(bench, _why_not(recipe))
        return dense, names, None
    sparse, sparse_names = finished(True)
    if len(sparse) > WORTH_SHARE * len(dense):
        _tell_dense(bench, "its convolutions hold too few of them for TFLite's sparse encoding")
        return dense, names, None
    problem = difference(dense, sparse)
    if problem:
        bench.ctx.warn(f"TFLite's sparse encoding is not used: {problem}.")
        return dense, names, None
    before, after, memory = packed_sizes(dense), packed_sizes(sparse), expanded_bytes(read_model(sparse))
    larger = after["gzip_bytes"] > before["gzip_bytes"]
    bench.ctx.warn(
        f"The weights are stored without their zeros: the file takes {kib(after['size_bytes'])} in the place of "
        f"{kib(before['size_bytes'])}. LiteRT expands them when it loads the model, into {kib(sum(memory))} of memory; "
        f"accelerators may not know the operator (DENSIFY). With gzip it takes {kib(after['gzip_bytes'])}, with all "
        f"zeros stored {kib(before['gzip_bytes'])}"
        + (": choose `export.sparse: never` where files are sent compressed." if larger else ".")
    )
    return (
        sparse,
        sparse_names,
        {
            "tensors": len(memory),
            "expanded_bytes": sum(memory),
            **{f"dense_{name}": value for name, value in before.items()},
        },
    )


def _tell_dense(bench: Workbench, why: str) -> None:
    prune = bench.recipe.prune
    if prune is not None and prune.method == "unstructured":
        bench.ctx.warn(f"Zeros do not make the file itself smaller: {why}. They pay in its compressed size.")


def _why_not(recipe: Recipe) -> str:
    if recipe.export.sparse == "never":
        return "`export.sparse` is `never`"
    if "tflite-micro" in recipe.benchmark.runtimes:
        return "tflite-micro cannot read TFLite's sparse encoding"
    return "TFLite's sparse encoding is used with INT8 activations only"


def kib(size_bytes: int) -> str:
    """Returns a size in KiB."""
    return f"{size_bytes / 1024:,.1f} KiB"


def difference(dense: bytes, sparse: bytes) -> str:
    """Returns why a sparse flatbuffer cannot take the place of a dense one on LiteRT, "" where it can."""
    try:
        same = np.array_equal(_outputs(dense), _outputs(sparse))
    except ModelError as error:
        return str(error).partition(": ")[2]  # without the path of a file that is gone
    return "" if same else "LiteRT gives other outputs with it"


def _outputs(content: bytes) -> NDArray[Any]:
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(content)
        session = RUNTIMES["litert"].session(path)
        rng = np.random.default_rng(0)
        return session.run(np.concatenate([random_values(session.input, rng) for _ in range(TRIALS)]))
