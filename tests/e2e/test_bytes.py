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
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from compress.errors import ExitCode
from compress.pipeline import Outcome

UNPRUNED = "prune=null"


def weights(path: Path) -> list[NDArray[np.int8]]:
    """Returns the INT8 tensors with a scale per channel, which are the weights."""
    interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    return [
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8 and len(detail["quantization_parameters"]["scales"]) > 1
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
    assert len(values) == 10
    assert max(values) <= 16
    clusters = report["quantization"]["clusters"]
    assert (clusters["asked"], clusters["largest"]) == (16, max(values))
    flatbuffer = report["models"][-1]["flatbuffer"]
    assert flatbuffer["gzip_bytes"] == len(gzip.compress(content, 9, mtime=0)) < clusters["unclustered_gzip_bytes"]
    assert flatbuffer["zstd_bytes"] == len(zstandard.compress(content, 19)) < clusters["unclustered_zstd_bytes"]
    assert report["verification"]["twin"]["same"] >= 99.8
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
