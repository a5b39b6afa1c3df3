"""Text that a shipped language model writes itself, token by token, for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.splits import derived_seed
from edgecompress.errors import DataError
from edgecompress.stages.base import Workbench
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import dequantize_output, quantize_input

#: Tokens that are written, and how daring: 1 draws as the model has it, less of it prefers the likelier ones.
TOKENS = 200
TEMPERATURE = 0.8
#: Padding and the unknown are no text.
FIRST_TOKEN = 2


def sample_text(bench: Workbench, path: Path) -> dict[str, Any]:
    """Returns prompt (the beginning of the test split), text (what the flatbuffer adds to it), tokens, temperature.

    Every token is drawn from the flatbuffer's own output for the last window of tokens; the recipe's seed decides.
    """
    dataset = bench.dataset
    if dataset.vocabulary is None:
        raise DataError(f"task {bench.task.name} needs text, but source `{dataset.name}` gives none.")
    session = RUNTIMES["litert"].session(path, threads=bench.recipe.benchmark.threads)
    rng = np.random.default_rng(derived_seed(bench.recipe.seed, "sample"))
    window: NDArray[np.int32] = dataset.test.inputs[0].astype(np.int32)
    prompt, written = window.tolist(), list[int]()
    for number in range(TOKENS):
        given = bench.task.to_flatbuffer(bench.task.inputs(window[np.newaxis]))
        raw = session.run(quantize_input(given, session.input))
        written.append(draw(dequantize_output(raw, session.output)[0, -1], rng))
        window = np.append(window[1:], np.int32(written[-1]))
        bench.ctx.progress(number + 1, TOKENS, "tokens written")
    # Decoded together, since a character may have several tokens.
    before, whole = (dataset.vocabulary.decode(tokens) for tokens in (prompt, prompt + written))
    together = whole.startswith(before)
    text = whole[len(before) :] if together else dataset.vocabulary.decode(written)
    return {"prompt": before, "text": text, "tokens": TOKENS, "temperature": TEMPERATURE}


def draw(logits: NDArray[np.float32], rng: np.random.Generator) -> int:
    """Returns a token, drawn by softmax(logits / TEMPERATURE) from those that stand for text."""
    scaled = logits[FIRST_TOKEN:].astype(np.float64) / TEMPERATURE
    shares = np.exp(scaled - scaled.max())
    return FIRST_TOKEN + int(rng.choice(len(shares), p=shares / shares.sum()))
