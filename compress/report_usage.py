"""How to use the flatbuffer: the input's formula and a Python program with this flatbuffer's own numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from compress.report_schema import REPORT, DataSummary, TensorSummary

RANGES = {"int8": (-128, 127), "int16": (-32768, 32767), "uint8": (0, 255)}
PICTURE_AXES = 3
#: More class names than this are read from report.json instead of standing in the program.
INLINE_CLASSES = 40
LINE_WIDTH = 100
#: Factor and offset closer than this to 1 and a whole number make `value + offset` exact for every 8-bit value.
EXACT = 1e-3


def input_document(data: DataSummary, tensor: TensorSummary) -> dict[str, Any]:
    """Returns the flatbuffer's input as report.json has it, with the formula from a raw value to what it takes.

    `factor` and `offset` (one per channel) fold normalisation and quantization: q = round(value * factor + offset).
    """
    document = {**_tensor(tensor), "value_scale": data.value_scale, "mean": list(data.mean), "std": list(data.std)}
    document["normalization"] = data.origin
    pairs = list(zip(data.mean, data.std, strict=True))
    if tensor.scale is None or tensor.zero_point is None:
        factor = [data.value_scale / std for _, std in pairs]
        offset = [-mean / std for mean, std in pairs]
        formula = _each(factor, offset, "value * {factor} {offset}")
        return {**document, "factor": factor, "offset": offset, "formula": f"x = {formula}"}
    low, high = RANGES[tensor.dtype]
    factor = [data.value_scale / (std * tensor.scale) for _, std in pairs]
    offset = [tensor.zero_point - mean / (std * tensor.scale) for mean, std in pairs]
    shifts = {math.floor(value + EXACT) for value in offset} | {math.ceil(value - EXACT) for value in offset}
    top = round(1 / data.value_scale)
    plain = [shift for shift in shifts if _is_shift(factor, offset, shift, (low, high), top)]
    if plain:
        shift = plain[0]
        formula = f"value {_shift(shift)}" if shift else "value"
    else:
        formula = f"clip(round({_each(factor, offset, 'value * {factor} {offset}')}), {low}, {high})"
    return {**document, "factor": factor, "offset": offset, "formula": f"{tensor.dtype} = {formula}"}


def _is_shift(factor: list[float], offset: list[float], shift: int, limits: tuple[int, int], top: int) -> bool:
    """Returns whether adding `shift` is the same as the formula for every value from 0 to `top`."""
    low, high = limits
    return all(
        min(max(round(value * f + o), low), high) == value + shift
        for f, o in zip(factor, offset, strict=True)
        for value in range(top + 1)
    )


def _each(factor: list[float], offset: list[float], form: str) -> str:
    """Returns `form` with the numbers filled in, as lists where the channels differ."""

    def text(values: list[float], *, sign: bool) -> str:
        if len(set(values)) == 1:
            value = values[0]
            shown = f"{abs(value) if sign else value:.7g}"
            return f"{'-' if value < 0 else '+'} {shown}" if sign else shown
        inner = ", ".join(f"{value:.7g}" for value in values)
        return f"+ [{inner}]" if sign else f"[{inner}]"

    return form.format(factor=text(factor, sign=False), offset=text(offset, sign=True))


def _shift(value: int) -> str:
    """Returns `+ 3` or `- 3`."""
    return f"{'-' if value < 0 else '+'} {abs(value)}"


def _tensor(tensor: TensorSummary) -> dict[str, Any]:
    return {
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


def output_document(tensor: TensorSummary) -> dict[str, Any]:
    """Returns the flatbuffer's output as report.json has it."""
    if tensor.scale is None:
        return {**_tensor(tensor), "formula": "score = value"}
    return {**_tensor(tensor), "formula": f"score = (value {_shift(-(tensor.zero_point or 0))}) * {tensor.scale:.7g}"}


def snippet(name: str, data: DataSummary, given: TensorSummary, answer: TensorSummary, file: str) -> str:
    """Returns a Python program that runs the flatbuffer on one sample and prints its class.

    Pictures with a known range of values (uint8) are read from picture files, everything else from .npy files.
    """
    picture = len(given.shape) == PICTURE_AXES + 1 and 0 < data.value_scale < 1
    reader = _picture_reader(given.shape[1:], data.value_scale) if picture else _array_reader(given.shape[1:])
    needs = "ai-edge-litert numpy pillow" if picture else "ai-edge-litert numpy"
    imports = ["import numpy as np", "from ai_edge_litert.interpreter import Interpreter"]
    imports += ["from PIL import Image, ImageOps"] if picture else []
    standard = ["import sys"] if len(data.classes) <= INLINE_CLASSES else ["import json", "import sys"]
    argument = "picture.png" if picture else "sample.npy"
    head = (
        f'"""Runs {file} of run {_plain(name)} on one sample: python classify.py {argument}  (pip install {needs})"""'
    )
    parts = [
        head, "", *standard, "", *imports, "", _classes(data.classes),
        f"MEAN = np.array({_floats(data.mean)}, np.float32)  # {_plain(data.origin)}",
        f"STD = np.array({_floats(data.std)}, np.float32)",
        "", "", reader, "", "",
        "def classify(interpreter, values):",
        '    """Returns the name of the class and the score of every class."""',
        f"    x = (values * {data.value_scale!r} - MEAN) / STD",
        *_feed(given),
        '    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[np.newaxis])',
        "    interpreter.invoke()",
        '    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]',
        *_scores(answer),
        "    return CLASSES[int(scores.argmax())], scores",
        "", "",
        'if __name__ == "__main__":',
        f'    interpreter = Interpreter(model_path="{file}")',
        "    interpreter.allocate_tensors()",
        "    name, scores = classify(interpreter, load(sys.argv[1]))",
        "    print(name)",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Returns a text that can stand in a comment or a docstring."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())


def _floats(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(repr(float(np.float32(value))) for value in values) + "]"


def _classes(classes: tuple[str, ...]) -> str:
    if len(classes) > INLINE_CLASSES:
        return f'CLASSES = json.load(open("{REPORT}", encoding="utf-8"))["data"]["classes"]  # {len(classes)} names'
    lines = ["CLASSES = ["]
    for name in map(repr, classes):  # names may hold spaces, so lines are broken between names only
        if len(lines) == 1 or len(lines[-1]) + len(name) > LINE_WIDTH:
            lines.append("   ")
        lines[-1] += f" {name},"
    return "\n".join([*lines, "]"])


def _picture_reader(shape: tuple[int, ...], value_scale: float) -> str:
    height, width, channels = shape
    top = round(1 / value_scale)
    values = "picture" if top == RANGES["uint8"][1] else f"picture * ({top} / 255)"
    mode = "L" if channels == 1 else "RGB"
    return "\n".join(
        [
            "def load(path):",
            f'    """Returns a picture file as the model was trained on it: {tuple(shape)}, values 0 to {top}."""',
            f'    picture = ImageOps.exif_transpose(Image.open(path)).convert("{mode}")',
            f"    picture = picture.resize(({width}, {height}), Image.Resampling.BILINEAR)",
            f"    picture = np.asarray(picture, np.float32).reshape({height}, {width}, {channels})",
            f"    return {values}",
        ]
    )


def _array_reader(shape: tuple[int, ...]) -> str:
    return "\n".join(
        [
            "def load(path):",
            f'    """Returns a sample of shape {tuple(shape)} with values as the training data has them."""',
            f"    return np.load(path).astype(np.float32).reshape({tuple(shape)})",
        ]
    )


def _feed(given: TensorSummary) -> list[str]:
    if given.scale is None or given.zero_point is None:
        return ["    x = x.astype(np.float32)"]
    low, high = RANGES[given.dtype]
    quantized = f"np.round(x / {given.scale!r}) {_shift(given.zero_point)}"
    return [f"    x = np.clip({quantized}, {low}, {high}).astype(np.{given.dtype})"]


def _scores(answer: TensorSummary) -> list[str]:
    if answer.scale is None or answer.zero_point is None:
        return ["    scores = output"]
    return [f"    scores = (output.astype(np.float32) {_shift(-answer.zero_point)}) * {answer.scale!r}"]
