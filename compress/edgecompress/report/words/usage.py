"""How to use the flatbuffer, in formulas: from a value of the data to the input, from the output to its meaning."""

from __future__ import annotations

import math
from typing import Any

from edgecompress.report.schema import DataSummary, TensorSummary
from edgecompress.report.words.data import scaled

RANGES = {"int8": (-128, 127), "int16": (-32768, 32767), "uint8": (0, 255)}
#: More channels than this are not written out in a formula.
WRITTEN_CHANNELS = 8
#: Factor and offset closer than this to 1 and a whole number make `value + offset` exact for every 8-bit value.
EXACT = 1e-3


def input_document(data: DataSummary, tensor: TensorSummary) -> dict[str, Any]:
    """Returns the flatbuffer's input as report.json has it, with the formula from a raw value to what it takes.

    `factor` and `offset` (one per channel) fold normalisation and quantization: q = round(value * factor + offset).
    """
    document = {**_tensor(tensor), "value_scale": data.value_scale, "mean": list(data.mean), "std": list(data.std)}
    document |= {"normalization": data.origin, "clip": data.clip}
    first = f", value less {_first(data.subtracted)}" if data.subtracted else ""
    pairs = list(zip(data.mean, data.std, strict=True))
    if data.kind == "tokens":
        return {**document, "factor": [1.0], "offset": [0.0], "formula": f"{tensor.dtype} = token number"}
    if tensor.scale is None or tensor.zero_point is None:
        factor = [data.value_scale / std for _, std in pairs]
        offset = [-mean / std for mean, std in pairs]
        formula = _each(factor, offset, "value * {factor} {offset}")
        if data.clip is not None:
            formula = f"clip({formula}, {-data.clip:g}, {data.clip:g})"
        return {**document, "factor": factor, "offset": offset, "formula": f"x = {formula}{first}"}
    low, high = RANGES[tensor.dtype]
    factor = [data.value_scale / (std * tensor.scale) for _, std in pairs]
    offset = [tensor.zero_point - mean / (std * tensor.scale) for mean, std in pairs]
    shifts = {math.floor(value + EXACT) for value in offset} | {math.ceil(value - EXACT) for value in offset}
    top = round(1 / data.value_scale)
    plain = [shift for shift in shifts if _is_shift(factor, offset, shift, (low, high), top)]
    if plain:
        shift = plain[0]
        formula = f"value {signed(shift)}" if shift else "value"
    else:
        formula = f"clip(round({_each(factor, offset, 'value * {factor} {offset}')}), {low}, {high})"
    return {**document, "factor": factor, "offset": offset, "formula": f"{tensor.dtype} = {formula}{first}"}


def _first(subtracted: tuple[int, ...]) -> str:
    """Returns what comes off values before anything else, by name where there is much of it."""
    if len(subtracted) > WRITTEN_CHANNELS:
        return "data.normalization.subtracted"
    return str(subtracted[0]) if len(subtracted) == 1 else str(list(subtracted))


def _is_shift(factor: list[float], offset: list[float], shift: int, limits: tuple[int, int], top: int) -> bool:
    """Returns whether adding `shift` is the same as the formula for every value from 0 to `top`."""
    low, high = limits
    return all(
        min(max(round(value * f + o), low), high) == value + shift
        for f, o in zip(factor, offset, strict=True)
        for value in range(top + 1)
    )


def _each(factor: list[float], offset: list[float], form: str) -> str:
    """Returns `form` with the numbers filled in, as lists where the channels differ, by name where there are many."""

    def text(values: list[float], *, sign: bool) -> str:
        if len(set(values)) > 1 and len(values) > WRITTEN_CHANNELS:
            return "+ offset" if sign else "factor"
        if len(set(values)) == 1:
            value = values[0]
            shown = f"{abs(value) if sign else value:.7g}"
            return f"{'-' if value < 0 else '+'} {shown}" if sign else shown
        inner = ", ".join(f"{value:.7g}" for value in values)
        return f"+ [{inner}]" if sign else f"[{inner}]"

    return form.format(factor=text(factor, sign=False), offset=text(offset, sign=True))


def signed(value: int) -> str:
    """Returns `+ 3` or `- 3`."""
    return f"{'-' if value < 0 else '+'} {abs(value)}"


def _tensor(tensor: TensorSummary) -> dict[str, Any]:
    return {
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


def output_document(tensor: TensorSummary, data: DataSummary) -> dict[str, Any]:
    """Returns the flatbuffer's output as report.json has it; numbers of a regression are in the data's units."""
    score = "value"
    if tensor.scale is not None:
        score = f"(value {signed(-(tensor.zero_point or 0))}) * {tensor.scale:.7g}"
    if not data.targets:
        return {**_tensor(tensor), "formula": f"score = {score}"}
    formulas = [f"{one['name']} = {scaled(score, dict(one))}" for one in data.targets]
    return {**_tensor(tensor), "formula": "; ".join(formulas)}
