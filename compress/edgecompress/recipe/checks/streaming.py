"""What `export.streaming` needs: a recurrent network over series that answers once, with activations of fixed grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgecompress.recipe.fields import KeyPath

Finding = tuple[KeyPath, str, str]

#: Built-in models whose steps can be streamed.
STREAMED = ("gru", "lstm")
#: Tasks whose inputs are series, or may be.
TASKS = ("timeseries-classification", "audio-classification", "regression")
PATH = ("export", "streaming")


def check_streaming(data: dict[str, Any]) -> Iterator[Finding]:
    """Gives what a streamed step does not go with: (path of the key to blame, message, hint)."""
    export = data.get("export")
    if not isinstance(export, dict) or export.get("streaming") is not True:
        return
    task = data.get("task", "image-classification")
    if isinstance(task, str) and task not in TASKS:
        yield PATH, f"is for series, and task {task} is about something else", f"it goes with {', '.join(TASKS)}"
        return
    block = data.get("student") or data.get("teacher")
    model = block.get("model") if isinstance(block, dict) else None
    if isinstance(model, str) and model not in STREAMED:
        yield PATH, f"needs a recurrent network, not `{model}`", f"choose one of {', '.join(STREAMED)}"
    quantize = data.get("quantize")
    activations = quantize.get("activations") if isinstance(quantize, dict) else None
    if activations in ("dynamic", "float32"):
        message = f"does not go with `quantize.activations: {activations}`: states are handed on as integers"
        yield PATH, message, "choose `activations: int8`, or leave the quantize block out"
