"""What a finished run is worth: its report, and its answers in LiteRT beside the network's in PyTorch."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from benchmarks.zoo.entry import Entry
from benchmarks.zoo.prepare import as_inputs, build


def measure(entry: Entry, folder: Path) -> dict[str, Any]:
    """Returns the columns that a run's folder gives; empty where the run left no flatbuffer."""
    report = json.loads((folder / "out" / "report.json").read_text())
    check, flatbuffer = report["verification"], report["models"][-1]["flatbuffer"]
    found: dict[str, Any] = {"bytes": flatbuffer["size_bytes"]}
    if check is not None:
        found["not_int8"] = operators(check["census"]["not_int8"] + check["census"]["allowed"])
        found["twin"] = rounded(check["twin_agreement"], 2)
    ratio = (report["ratios"]["against_student"] or {}).get("latency")
    found["latency"] = rounded(1 / ratio, 2) if ratio else ""
    path = next(folder / "out" / name for name in ("model.tflite", "rejected.tflite") if name in report["files"])
    expected, given, from_rounded = answers(entry, folder, path, report["data"]["normalization"])
    found["agreement"] = rounded(correlation(given, expected), 4)
    if from_rounded is not None:
        found["input_alone"] = rounded(correlation(from_rounded, expected), 4)
    found["spread"] = rounded(float(centred(expected).std() / (np.abs(expected).mean() + 1e-30)), 4)
    return found


def operators(tensors: list[dict[str, Any]]) -> str:
    """Returns which operators have tensors that are not INT8, with their number: `LAYER_NORM 2, SOFTMAX 1`."""
    places = {(tensor["subgraph"], tensor["op_index"], tensor["op"]) for tensor in tensors}
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(op for *_, op in places).items()))


def answers(
    entry: Entry, folder: Path, path: Path, normalization: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Returns what the network answers to the test samples in PyTorch, and what the flatbuffer answers.

    And what the network answers, in float32, to samples that are rounded as the flatbuffer's INT8 input is, if it has
    one: no INT8 file can be expected to be nearer.
    """
    made = json.loads((folder / "made.json").read_text())
    with np.load(folder / "data.npz") as arrays:
        inputs = as_inputs(entry, arrays["x_test"], normalization)
    network = build(entry, tuple(made["shape"]), folder)
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    network.eval()

    def answer_all(values: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            found = torch.cat([network(part) for part in torch.split(torch.from_numpy(values), 1)])  # as on a device
        return found.reshape(len(values), -1).double().numpy()  # type: ignore[no-any-return]

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    taken, told = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    expected, from_rounded = answer_all(inputs), None
    if taken["dtype"] != np.float32 and np.issubdtype(inputs.dtype, np.floating):
        scale, zero = taken["quantization"]
        from_rounded = answer_all((quantized(inputs, taken).astype(np.float32) - np.float32(zero)) * np.float32(scale))
    if entry.takes == "pictures":
        inputs = inputs.transpose(0, 2, 3, 1)
    given = []
    for sample in inputs:
        interpreter.set_tensor(taken["index"], quantized(sample, taken).reshape(taken["shape"]))
        interpreter.invoke()
        answer = interpreter.get_tensor(told["index"])
        if answer.dtype != np.float32:
            scale, zero = told["quantization"]
            answer = (answer.astype(np.float32) - zero) * scale
        given.append(answer.reshape(-1))
    return expected, np.array(given, np.float64), from_rounded


def quantized(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[Any]:
    """Returns values in the type of a flatbuffer's input."""
    kind = np.dtype(tensor["dtype"])
    if not np.issubdtype(values.dtype, np.floating) or kind == np.float32:
        return values.astype(kind)
    scale, zero = tensor["quantization"]
    limits = np.iinfo(kind)
    clipped: NDArray[Any] = np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(kind)
    return clipped


def correlation(given: NDArray[Any], expected: NDArray[Any]) -> float:
    """Returns the correlation after each output's mean over the samples is subtracted: 0 for a constant answer."""
    if given.shape != expected.shape or not np.isfinite(given).all() or not np.isfinite(expected).all():
        return 0.0
    a, b = centred(given), centred(expected)
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def centred(values: NDArray[Any]) -> NDArray[Any]:
    """Returns values less each column's mean."""
    without: NDArray[Any] = values - values.mean(0)
    return without


def rounded(value: float | None, digits: int) -> float | str:
    """Returns a figure as the table has it; empty where there is none."""
    return "" if value is None else round(value, digits)
