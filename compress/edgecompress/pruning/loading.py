"""Pruned models come back: weights and plan into the user's own module, without pickle and without a pruning library.

For example `model = load_pruned(MyNet(num_classes=10), "runs/my-run")`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.weights import load_weights
from edgecompress.pruning.architecture import apply_architecture
from edgecompress.store.reading import read_document

#: What a run's folder calls the plan, and what weights are called in one.
PLAN = "architecture.json"
WEIGHTS = ("model.safetensors", "weights.safetensors")

Model = TypeVar("Model", bound=nn.Module)


def load_pruned(model: Model, plan: str | Path, weights: str | Path | None = None) -> Model:
    """Returns the model with the widths and weights of a pruned one, in evaluation mode.

    Args:
        model: The base model, built as it was before it was pruned; changed in place.
        plan: The architecture plan, or a folder that holds it as `architecture.json`.
        weights: The safetensors file; without, `model.safetensors` (or `weights.safetensors`) beside the plan.

    Raises:
        ModelError: A file is missing or damaged, or one does not fit the model. Where the plan does not, the model is
            unchanged; where the weights do not, it has the plan's widths and is to be built again.
    """
    path = Path(plan) / PLAN if Path(plan).is_dir() else Path(plan)
    try:
        document = read_document(path, "an architecture plan")
    except OSError as error:
        raise ModelError(
            f"the architecture plan {path} cannot be read: {error.strerror or error}. Expected the file "
            f"{PLAN} that the run of a recipe with `prune: {{method: structured}}` leaves, or its folder."
        ) from error
    except ValueError as error:
        raise ModelError(f"the architecture plan {path} is not JSON: {error}") from error
    beside = [path.parent / name for name in WEIGHTS]
    tensors = Path(weights) if weights is not None else next((one for one in beside if one.is_file()), beside[0])
    if not tensors.is_file():
        raise ModelError(f"the weights {tensors} are not there. Give the safetensors file as the third argument.")
    try:
        apply_architecture(model, document)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    load_weights(model, tensors)
    return model.eval()
