"""What finished steps must hold for the rest of a run: their figures, and the small files that the report is made of.

A result may have the right hashes and the wrong content: written by a program of another day, or made to look like
ours. What these forms ask for is what is read without a second look; the rest is found where it is used.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgecompress.errors import ResultError
from edgecompress.figures import named
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import model_stages
from edgecompress.report.schema import FlatbufferSummary, TensorSummary
from edgecompress.store.store import StageResult

Count = Annotated[int, Field(ge=0)]
#: What a model's outputs give: None where that is infinite or undefined (a network may divide by zero).
Figure = float | None
CURVE, PLOTS = "curve.json", "plots.json"
VALIDATION = "validation_"
#: Validation's figures that are no numbers.
STANDING = ("validation_standing",)


class _Form(BaseModel):
    """Keys and types; more keys than these are none of a form's business."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Counts(_Form):
    params: Count
    nonzero_params: Count
    macs: Count


class _Standing(_Form):
    figure: str
    value: Figure
    low: float | None
    high: float | None
    baseline: float
    against: str
    samples: Count
    larger_is_better: bool


class _Reordered(_Form):
    accuracy: float
    reordered: float
    moved: list[tuple[str, str]]


class _Trained(_Counts):
    trained: bool
    from_scratch: bool = False
    optimizer_steps: Count = 0
    validation_standing: _Standing | None = None
    reordered: _Reordered | None = None
    distilled: bool = False
    outputs: str | None = None


class _Target(_Form):
    kind: Literal["params", "macs", "size", "latency"]
    before: float
    asked: float
    reached: float


class _Beside(_Form):
    runtime: str
    before_ms: float
    after_ms: float
    ratio: float


class _Pruned(_Counts):
    base: _Counts
    of: str
    asked: float
    distilled: bool


class _Structured(_Pruned):
    method: Literal["structured"]
    importance: str
    removed_params: float
    removed_macs: float
    rounding_points: float | None
    step_widths: dict[str, list[Count]]
    widths: dict[str, tuple[Annotated[int, Field(gt=0)], Count]]
    target: _Target
    latency: _Beside


class _Unstructured(_Pruned):
    method: Literal["unstructured"]
    prunable_weights: Count
    masked_weights: Count
    masked_share: float


class _Rung(_Form):
    name: str
    detail: str
    drop_points: Figure
    accuracy: float | None
    value: float | None = None


class _Quantized(_Form):
    mode: Literal["ptq", "qat"]
    weights: str
    activations: str
    portable: bool
    calibration_samples: Count = 0
    rungs: list[_Rung] | None = None
    wide_layers: list[str] | None = None
    wide_macs_share: float | None = None
    distilled: bool = False
    float_norms: list[str] | None = None
    float_cells: list[str] | None = None
    float_softmax: list[str] | None = None


class _Packed(_Form):
    gzip_bytes: Count
    zstd_bytes: Count


class _Exported(_Form):
    flatbuffers: dict[str, FlatbufferSummary]
    io: str
    unclustered: _Packed | None = None


class _Operator(_Form):
    count: Count
    dtypes: dict[str, Count]


class _Census(_Form):
    ops: dict[str, _Operator]
    tensors: dict[str, Count]
    not_int8: list[dict[str, Any]]
    allowed: list[dict[str, Any]] = []


class _Data(_Form):
    source: str
    train: Count
    validation: Count
    test: Count
    classes: list[str]
    input_shape: list[Count]
    value_scale: float
    mean: list[float]
    std: list[float]
    origin: str
    notes: list[str]


class _Verified(_Form):
    passed: bool
    reasons: list[str]
    models: dict[str, dict[str, float | None]]
    census: _Census
    data: _Data
    input: TensorSummary
    output: TensorSummary
    evidence: dict[str, Any]
    test_samples: Count


class _Latency(_Form):
    p50_ms: float
    p95_ms: float


class _Benchmarked(_Form):
    latency: dict[str, dict[str, _Latency]]
    runtimes: list[dict[str, Any]]
    threads: Count
    runs: Count


class _Epoch(_Form):
    epoch: Count
    loss: float


FORMS: dict[str, type[_Form]] = {
    "teacher": _Trained,
    "distill": _Trained,
    "quantize": _Quantized,
    "export": _Exported,
    "verify": _Verified,
    "benchmark": _Benchmarked,
}
#: Where figures stand for each model of a run: stage -> key.
ROWS = {"export": "flatbuffers", "verify": "models", "benchmark": "latency"}
_Curve = TypeAdapter(list[_Epoch])
_Plots = TypeAdapter(dict[str, Any])
_Warnings = TypeAdapter(tuple[str, ...])


def require_form(result: StageResult, recipe: Recipe) -> None:
    """Lets a finished step of a recipe pass whose figures and small files have the form of those that stages leave.

    Raises:
        ResultError: They have not.
    """
    try:
        _check(result, recipe)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        why = f"{where or 'its figures'}: {first['msg']}"
    except (OSError, ValueError, TypeError, LookupError, RecursionError, StopIteration) as error:
        why = f"{type(error).__name__}: {error}"[:200]
    else:
        return
    raise ResultError(f"{result.folder}: {why}", (result.stage, result.fingerprint))


def _check(result: StageResult, recipe: Recipe) -> None:
    text = json.dumps(result.metrics, allow_nan=False)
    form = FORMS.get(result.stage, _Form)
    if result.stage == "prune":
        form = _Structured if recipe.prune is not None and recipe.prune.method == "structured" else _Unstructured
    form.model_validate_json(text)
    for name, value in result.metrics.items():
        if (
            name.startswith(VALIDATION)
            and name not in STANDING
            and value is not None
            and (isinstance(value, bool | str) or value != value + 0)
        ):
            raise ValueError(f"{name} is no number")
    standing = result.metrics.get("validation_standing")
    if standing is not None:
        named(standing["figure"])
    if result.stage in ROWS:
        rows, found = {"quantized", *(row for row, _ in model_stages(recipe))}, result.metrics[ROWS[result.stage]]
        if set(found) != rows:
            raise ValueError(f"{ROWS[result.stage]} has {sorted(found)}, not {sorted(rows)}")
    _Warnings.validate_json(json.dumps(result.warnings), strict=True)
    _number(result.seconds)
    for name, kind in ((CURVE, _Curve), (PLOTS, _Plots)):
        if name in result.artifacts:
            kind.validate_json(result.path(name).read_bytes(), strict=True)


def _number(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{value!r:.40} is no time")
