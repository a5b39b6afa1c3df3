"""A report as a Fashion-MNIST run would write it; the figures are made up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from edgecompress.recipe.schema import Recipe
from edgecompress.report.document import build_report
from edgecompress.report.schema import (
    BenchmarkSummary,
    DataSummary,
    FlatbufferSummary,
    LatencySummary,
    ModelRow,
    ReportInputs,
    StepSummary,
    TensorSummary,
    VerificationSummary,
)

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
#: As the benchmark stage leaves them: one that runs, one that does not.
RUNTIMES: tuple[dict[str, Any], ...] = (
    {
        "runtime": "tflite-micro", "runs": True, "reason": "", "samples": 1000, "same_answer": 99.9, "bit_exact": 97.5,
        "max_steps": 1.0, "arena_bytes": 45856, "activation_bytes": 39488, "persistent_bytes": 6368,
        "flash_bytes": 61312,
    },
    {
        "runtime": "tflite-runtime", "runs": False, "reason": "an operator it does not know", "samples": 0,
        "same_answer": None, "bit_exact": None, "max_steps": None, "arena_bytes": None, "activation_bytes": None,
        "persistent_bytes": None, "flash_bytes": None,
    },
)  # fmt: skip
CORRECT = (873, 985, 896, 932, 901, 986, 790, 975, 984, 963)


def recipe(**changes: Any) -> Recipe:
    """Returns a recipe with every block."""
    blocks: dict[str, Any] = {
        "version": 1,
        "name": "fashion-mnist-qat",
        "data": {"source": "fashion-mnist", "augment": ["crop", "flip"]},
        "teacher": {"model": "resnet9", "args": {"width": 32}},
        "student": {"model": "resnet8", "args": {"width": 16}},
        "distill": {},
        "prune": {"ratio": 0.4},
        "quantize": {"mode": "qat"},
        "budget": {"accuracy_drop_points": 1.5, "size_kib": 64, "latency_ms": 0.5, "agreement": 98},
        **changes,
    }
    return Recipe.model_validate({key: value for key, value in blocks.items() if value is not None})


def row(
    key: str, model: str, params: int, macs: int, size: int, accuracy: float, p50_ms: float, **more: Any
) -> ModelRow:
    """Returns a model's row; gzip packs the flatbuffer to 92 %, zstd to 90 %."""
    dtype = more.pop("dtype", "float32")
    file = "model.tflite" if key == "quantized" else f"{key}.tflite"
    return ModelRow(
        key, model, params, more.pop("nonzero_params", params), macs,
        FlatbufferSummary(file, size, size * 92 // 100, dtype, zstd_bytes=size * 90 // 100),
        accuracy, accuracy - 0.04, accuracy + 0.3,
        latency={"litert": LatencySummary(p50_ms, p50_ms * 1.18)}, **more,
    )  # fmt: skip


TEACHER = row("teacher", "resnet9", 1_654_890, 91_234_816, 6_634_512, 93.86, 4.817)
STUDENT = row("student", "resnet8", 77_658, 9_437_184, 318_220, 93.02, 0.683, agreement_with_reference=96.31)
PRUNED = row("pruned", "resnet8", 41_202, 5_612_288, 171_904, 92.91, 0.452, agreement_with_reference=96.02)
RESULT = row(
    "quantized", "resnet8", 41_202, 5_612_288, 54_488, 92.85, 0.171, dtype="int8",
    agreement_with_reference=95.88, agreement_with_float=99.18,
)  # fmt: skip
PARTS = {
    "weights": 45_000, "sparse_indices": 0, "biases": 1_200, "scales": 2_400, "zero_vectors": 528, "metadata": 905,
    "constants": 40, "zero_points": 64, "names": 251, "structure": 4_100,
}  # fmt: skip
RESULT = replace(
    RESULT,
    flatbuffer=replace(
        RESULT.flatbuffer, metadata_bytes=905, overhead_bytes=4_455, overhead_allowance_bytes=11_936, parts=PARTS
    ),
)


def curve(epochs: int, loss: float, accuracy: float) -> tuple[dict[str, Any], ...]:
    """Returns a training curve that levels off."""
    return tuple(
        {
            "epoch": number,
            "loss": round(loss * (0.25 + math.exp(-number / 4)), 4),
            "validation_accuracy": round(accuracy - 9 * math.exp(-number / 3.5) + 0.2 * math.sin(number * 2.1), 2),
            "learning_rate": 0.1 * (1 - number / (epochs + 1)),
            "steps": 211 * number,
            "batch_size": 64,
            "optimizer": "sgd",
            "setbacks": int(number > epochs // 2),
        }
        for number in range(1, epochs + 1)
    )


def confusion() -> list[list[int]]:
    """Returns a matrix with CORRECT on its diagonal; the errors lie with the neighbours, mostly."""
    matrix = []
    for label, correct in enumerate(CORRECT):
        counts = [0] * len(CORRECT)
        counts[label], wrong = correct, 1000 - correct
        for share, step in ((0.6, 6 if label == 0 else 2), (0.3, 4), (0.1, 5)):
            counts[(label + step) % 10] += round(wrong * share)
        counts[(label + 2) % 10] += 1000 - sum(counts)
        matrix.append(counts)
    return matrix


LAYERS = tuple(
    {"index": number, "layer": layer, "op": op, "max_steps": 1.0, "mean_steps": 0.004 * (number + 1),
     "outlier_share": 0.0, "weights_differ": False, "differs": False}
    for number, (layer, op) in enumerate(
        [("stem", "CONV_2D"), ("stack1.conv1", "CONV_2D"), ("stack1.conv2", "CONV_2D"), ("stack1.add", "ADD"),
         ("stack2.conv1", "CONV_2D"), ("stack2.conv2", "CONV_2D"), ("stack2.shortcut", "CONV_2D"),
         ("stack2.add", "ADD"),
         ("pool", "MEAN"), ("classifier", "FULLY_CONNECTED")]
    )
)  # fmt: skip


def analysed(index: int, points: float | None, db: float | None, **more: Any) -> dict[str, Any]:
    """Returns one layer of the sample as the verify stage analyses it."""
    layer = LAYERS[index]
    figures = {"macs": 460_800, "snr_db": 33.4 - index, "local_snr_db": 41.2, "cosine": 0.99977, "saturation": 0.0002,
               "range_use": 0.62, "weight_ratio": 2.71}  # fmt: skip
    return {"index": index, "layer": layer["layer"], "op": layer["op"], **figures, "gained_points": points,
            "gained_db": db, **more}  # fmt: skip


#: As the verify stage leaves it: the second convolution has channels far apart, the sums no weights.
ANALYSIS: dict[str, Any] = {
    "split": "validation", "samples": 256, "score": 91.41, "float_score": 93.36, "noise_points": 0.78, "tried": 10,
    "layers": [
        analysed(1, 1.56, 6.02, weight_ratio=1013.4, local_snr_db=21.3),
        *(analysed(index, 0.0, 0.4 - index / 100) for index in (0, 2, 4, 5, 6, 9)),
        *(analysed(index, 0.0, 0.1, weight_ratio=None, macs=None) for index in (3, 7, 8)),
        analysed(8, None, None, layer="pool.pad", op="PAD", local_snr_db=150.0, weight_ratio=None, macs=None,
                 saturation=None, range_use=None),
    ],
}  # fmt: skip

CENSUS = {
    "ops": {
        "CONV_2D": {"count": 6, "dtypes": {"int8": 6}},
        "ADD": {"count": 2, "dtypes": {"int8": 2}},
        "FULLY_CONNECTED": {"count": 1, "dtypes": {"int8": 1}},
        "MEAN": {"count": 1, "dtypes": {"int8": 1}},
    },
    "tensors": {"int32": 9, "int8": 18},
    "not_int8": [],
    "allowed": [],
}


def stands(key: str, value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    """Returns one model of the evidence."""
    return {
        "key": key, "figure": "accuracy", "value": value, "low": low, "high": high, "baseline": 10.0,
        "against": "always answering the most frequent class", "samples": 10_000, "larger_is_better": True, **more,
    }  # fmt: skip


def pair(key: str, gained: int | None, lost: int | None, p: float | None, loss: float) -> dict[str, Any]:
    """Returns one comparison of the evidence."""
    return {"key": key, "samples": 10_000, "gained": gained, "lost": lost, "p": p, "loss": loss}


#: As the verify stage leaves it, of a run with nothing to doubt.
EVIDENCE: dict[str, Any] = {
    "models": [
        stands("teacher", 93.86, 93.37, 94.31), stands("student", 93.02, 92.50, 93.50),
        stands("pruned", 92.91, 92.39, 93.40), stands("quantized", 92.85, 92.33, 93.34),
    ],
    "paired": [
        pair("teacher", 120, 221, 4.8e-8, 1.01), pair("student", 101, 118, 0.279, 0.17),
        pair("pruned", 31, 37, 0.544, 0.06),
    ],
    "permuted": [],
    "batch": [{"key": key, "samples": 16, "difference": 2e-7, "unsteady": 0.0} for key in ("teacher", "student")],
    "cosine": 0.9981,
    "scale": [],
    "answers": "f0",
    "samples_digest": "ab" * 16,
    "trainings": [
        {"stage": "teacher", "steps": 3165, "from_scratch": True},
        {"stage": "distill", "steps": 4220, "from_scratch": True},
    ],
}  # fmt: skip


def step(stage: str, seconds: float, status: str = "ran", **more: Any) -> StepSummary:
    """Returns a stage with a made-up fingerprint."""
    return StepSummary(stage, status, seconds, (stage.encode().hex() * 8)[:64], **more)


def inputs(**changes: Any) -> ReportInputs:
    """Returns everything the sample report is made from, with some of it changed."""
    sample = ReportInputs(
        created_at="2026-03-14T09:26:53+00:00",
        data=DataSummary(
            "fashion-mnist", 54_000, 6_000, 10_000, CLASSES, (1, 28, 28), 1 / 255, (0.2861,), (0.3530,),
            "mean and standard deviation of the training split", "5a" * 32,
        ),
        models=(TEACHER, STUDENT, PRUNED, RESULT),
        steps=(
            step("teacher", 801.4, "cached", curve=curve(15, 1.1, 94.1)),
            step("distill", 512.0, curve=curve(20, 1.6, 93.3)),
            step("prune", 148.2, curve=curve(5, 0.7, 93.1)),
            step("quantize", 96.1, curve=curve(3, 0.5, 93.2)),
            step("export", 14.2),
            step("verify", 9.8),
            step("benchmark", 6.4),
        ),
        benchmark=BenchmarkSummary(("litert",), 1, 200),
        input=TensorSummary("int8", (1, 28, 28, 1), 0.011109, -55),
        output=TensorSummary("int8", (1, 10), 0.1523, -12),
        environment={
            "python": "3.11.2", "platform": "Linux-6.1-x86_64", "cpu": "Example CPU @ 2.90GHz", "cores": 2,
            "versions": {"torch": "2.13.0", "ai-edge-litert": "2.3.0", "numpy": "2.4.6"},
        },
        files={"model.tflite": "c4" * 32},
        verification=VerificationSummary(
            True, CENSUS,
            twin={
                "samples": 10000, "same": 99.93, "clear": 99.5, "clear_same": 99.98,
                "max_steps": 2.0, "mean_steps": 0.03, "p999_steps": 1.0,
                "accuracy": 92.86,
            },
            layers=LAYERS,
        ),
        pruning={
            "method": "structured", "importance": "taylor",
            "asked": 0.4, "of": "macs", "removed_params": 0.469, "removed_macs": 0.405,
            "rounding_points": 0.5, "base_validation_accuracy": 93.4,
            "widths": {"stem": [16, 16], "stack1.conv1": [16, 8], "stack2.conv1": [32, 24], "stack3.conv1": [64, 40]},
        },
        distillation={
            "temperature": 4.0, "alpha": 0.7, "views": 8, "stages": ["distill", "prune"], "teacher_outputs": None,
        },
        analysis=ANALYSIS,
        evidence=EVIDENCE,
        quantization={"mode": "qat", "calibration_samples": 512, "ptq_validation_accuracy": 92.7},
        plots={
            "confusion_matrix": confusion(), "class_names": list(CLASSES),
            "per_class_accuracy": [count / 10 for count in CORRECT],
        },
    )  # fmt: skip
    return replace(sample, **changes)


def report(asked: Recipe | None = None, **changes: Any) -> dict[str, Any]:
    """Returns the sample report, with some of what it is made from changed."""
    return build_report(asked or recipe(), inputs(**changes))


SPARSITY = {
    "masked_weights": 900, "prunable_weights": 1000, "zeros_in_file": 910, "weights_in_file": 1000,
    "zeros_from_rounding": 10, "share": 0.91,
}  # fmt: skip
STREAMING = {
    "file": "model_step.tflite", "size_bytes": 9_200, "states": 1, "state_values": 64, "samples": 64, "equal": 100.0,
    "max_difference": 0.0,
}  # fmt: skip
FAULT = {
    "subgraph": 0, "op_index": 3, "op": "MEAN", "layer": "pool", "tensor": "t", "dtype": "float32",
    "why": "it writes float32 values",
}  # fmt: skip


def failed(**more: Any) -> VerificationSummary:
    """Returns the verdict on a flatbuffer with a float operator in it."""
    census = {**CENSUS, "not_int8": [FAULT], "allowed": [{**FAULT, "layer": "gate", "dtype": "int16"}]}
    return VerificationSummary(False, census, ("MEAN (layer pool) holds float32: it writes float32 values",), **more)


def without(*keys: str) -> tuple[ModelRow, ...]:
    """Returns the sample's models but those of some keys."""
    rows = (TEACHER, STUDENT, PRUNED, RESULT)
    return tuple(row for row in rows if row.key not in keys)
