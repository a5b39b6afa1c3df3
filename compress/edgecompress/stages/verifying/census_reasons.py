"""Why operators of a file are not what a recipe asks, and what would mend it."""

from __future__ import annotations

from typing import Literal

from edgecompress.quantization.structure.support import becomes_integer
from edgecompress.recipe.schema import QuantizeSpec
from edgecompress.tflite.facts.census import Census, NotInt8, allowance
from edgecompress.tflite.format.views import CONVERSIONS


def census_reasons(found: Census, spec: QuantizeSpec) -> list[tuple[NotInt8, str]]:
    """Returns what is not as the recipe asks, each with what can be done about it; conversions only by themselves.

    An operator in float has them around it, and they go with it.
    """
    blamed = [item for item in found.not_int8 if item.op not in CONVERSIONS] or found.not_int8
    return [
        (item, f"{item.op} (layer {item.layer}) holds {item.dtype}: {item.why}. {way_out(item, spec)}")
        for item in blamed
    ]


def way_out(item: NotInt8, spec: QuantizeSpec) -> str:
    """Returns what can be done about an operator that does not have the types it should; only what helps for this one.

    Another choice of activations helps where the operator has a kernel for it, `allow` for the types it can name, and
    for those only where activations are integers at all.
    """
    static: dict[str, Literal["int8", "int16"]] = {"int8": "int8", "int16": "int16"}
    meant = static.get(spec.activations)
    if meant is None:
        return f"Build the layer from other operators than {item.op}"
    if meant == "int16" and becomes_integer(item.op, "int8"):
        first = f"{item.op} has an INT8 kernel but none for INT16: use `quantize.activations: int8`"
    elif becomes_integer(item.op, meant):
        first = f"{item.op} has an {meant.upper()} kernel, but not for what it gets here: build the layer otherwise"
    else:
        first = f"{item.op} has no {meant.upper()} kernel: build the layer from operators that have one"
    wider = allowance(item.dtype)
    return f"{first}, or allow it by `quantize.allow: [{wider}]`" if wider in ("int16", "float32") else first
