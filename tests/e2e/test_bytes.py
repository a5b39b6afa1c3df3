"""What sparsity and clustering are worth in bytes, read from the shipped file by LiteRT's interpreter alone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edgecompress.errors import ExitCode
from edgecompress.pipeline.recheck import recheck
from edgecompress.pipeline.run import Outcome
from edgecompress.store.store import Store

UNPRUNED = "prune=null"


def weights(path: Path) -> list[NDArray[np.int8]]:
    """Returns the INT8 tensors with a scale per channel, which are the weights; sparse ones after they are expanded."""
    interpreter = Interpreter(
        str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.invoke()
    return [
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8 and len(detail["quantization_parameters"]["scales"]) > 1
        if not detail["sparsity_parameters"]
    ]


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.mark.parametrize("mode", ["ptq", "qat"])
def test_clustered_weights_have_few_values_and_pack_smaller(
    cook: Callable[..., Outcome], kitchen: Path, mode: str
) -> None:
    quantize = f"quantize={{mode: {mode}, clusters: 16, calibration_samples: 64}}"
    train = ("quantize.train={epochs: 2, batch_size: 32, learning_rate: 0.005}",) if mode == "qat" else ()
    outcome = cook(UNPRUNED, quantize, *train)
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    content = (kitchen / "run/model.tflite").read_bytes()
    report = report_of(kitchen / "run")
    values = [len(np.unique(weight)) for weight in weights(kitchen / "run/model.tflite")]
    assert len(values) == 7
    assert max(values) <= 16
    clusters = report["quantization"]["clusters"]
    assert (clusters["asked"], clusters["largest"]) == (16, max(values))
    flatbuffer = report["models"][-1]["flatbuffer"]
    assert flatbuffer["gzip_bytes"] == len(gzip.compress(content, 9, mtime=0)) < clusters["unclustered_gzip_bytes"]
    assert flatbuffer["zstd_bytes"] == len(zstandard.compress(content, 19)) < clusters["unclustered_zstd_bytes"]
    assert report["verification"]["first_differing_layer"] is None
    assert report["verification"]["twin"]["same"] > 99.0
    assert report["quantization"]["clustered_validation_accuracy"] > 50.0
    assert "at most 16 values in a layer (16 asked)" in (kitchen / "run/report.md").read_text()


def test_clusters_keep_the_zeros_of_a_sparse_model(cook: Callable[..., Outcome], kitchen: Path) -> None:
    outcome = cook(
        "prune={method: unstructured, ratio: 0.5, steps: 2, train: {epochs: 1, batch_size: 32}}", "quantize.clusters=32"
    )
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = report_of(kitchen / "run")
    found = weights(kitchen / "run/model.tflite")
    assert max(len(np.unique(weight)) for weight in found) <= 32
    zeros = sum(int((weight == 0).sum()) for weight in found)
    assert zeros == report["sparsity"]["zeros_in_file"] >= report["sparsity"]["masked_weights"]


SPARSE = "prune={method: unstructured, ratio: 0.9, steps: 4, train: {epochs: 2, batch_size: 32}}"


def test_sparse_convolutions_make_the_file_smaller_and_compute_the_same(
    cook: Callable[..., Outcome], kitchen: Path, shared_store: Store
) -> None:
    dense = cook(SPARSE, "export.sparse=never", output="dense")
    outcome = cook(SPARSE, "benchmark.runtimes=[litert, tensorflow]", output="sparse")
    assert (dense.exit_code, outcome.exit_code) == (ExitCode.DONE, ExitCode.DONE), outcome.messages
    before, after = (report_of(kitchen / name) for name in ("dense", "sparse"))
    flatbuffer, plain = after["models"][-1]["flatbuffer"], before["models"][-1]["flatbuffer"]
    assert plain["sparse"] is None
    found = flatbuffer["sparse"]
    assert [found[f"dense_{kind}_bytes"] for kind in ("size", "gzip", "zstd")] == [
        plain[f"{kind}_bytes"] for kind in ("size", "gzip", "zstd")
    ]
    assert flatbuffer["size_bytes"] == (kitchen / "sparse/model.tflite").stat().st_size < 0.9 * plain["size_bytes"]
    assert after["sparsity"] == before["sparsity"]
    assert after["models"][-1]["accuracy"] == before["models"][-1]["accuracy"]
    assert after["verification"]["census"]["ops"]["DENSIFY"] == {
        "count": found["tensors"], "dtypes": {"int8": found["tensors"]},
    }  # fmt: skip
    assert after["verification"]["first_differing_layer"] is None
    assert sum(flatbuffer["parts"].values()) == flatbuffer["size_bytes"]
    assert flatbuffer["parts"]["sparse_indices"] > 0
    assert flatbuffer["overhead_bytes"] <= flatbuffer["overhead_allowance_bytes"]
    assert after["runtimes"][0]["runs"]
    assert any("stored without their zeros" in warning for warning in after["warnings"])
    assert any("`export.sparse` is `never`" in warning for warning in before["warnings"])
    assert recheck(kitchen / "sparse", shared_store)["passed"]


@pytest.mark.parametrize(
    ("method", "share"),
    [("ratio: 0.5", 0.5), ("ratio: 0.95", 0.95), ("ratio: 0.5, pattern: 1x4", 0.5), ("ratio: 0.5, pattern: 1x16", 0.5)],
)
def test_every_masked_weight_is_zero_in_the_file(
    cook: Callable[..., Outcome], kitchen: Path, shared_store: Store, method: str, share: float
) -> None:
    """The masks are the zeros that pruning left in float32; QAT, with a teacher, comes after it."""
    outcome = cook(f"prune={{method: unstructured, {method}, steps: 2, train: {{epochs: 1, batch_size: 32}}}}")
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    (step,) = (step for step in outcome.plan.steps if step.stage == "prune")
    pruned = load_file(shared_store.folder("prune", step.fingerprint) / "weights.safetensors")
    masks = [weight == 0 for weight in pruned.values() if weight.ndim in (2, 4) and (weight == 0).any()]
    found = weights(kitchen / "run/model.tflite")
    for mask in masks:
        place = next((k for k, weight in enumerate(found) if holds(weight, mask)), None)
        assert place is not None, f"no tensor of the file has the zeros of one of shape {mask.shape}"
        found.pop(place)  # each mask has a tensor of its own
    told = report_of(kitchen / "run")["sparsity"]
    assert told["masked_weights"] == sum(int(mask.sum()) for mask in masks) >= share * told["prunable_weights"]
    zeros = sum(int((weight == 0).sum()) for weight in weights(kitchen / "run/model.tflite"))
    assert told["zeros_in_file"] == zeros
    assert told["zeros_from_rounding"] == zeros - told["masked_weights"]


def holds(weight: NDArray[np.int8], mask: NDArray[np.bool_]) -> bool:
    """Returns whether a weight of the file, OHWI or (from one input channel) 1HWO, is zero where a mask, OIHW, is."""
    layouts = [mask] if mask.ndim == 2 else [mask.transpose(0, 2, 3, 1), mask.transpose(1, 2, 3, 0)]
    return any(weight.shape == layout.shape and not weight[layout].any() for layout in layouts)
