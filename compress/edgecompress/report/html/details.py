"""The lower half of report.html: verification, how to use the flatbuffer, how it was made."""

from __future__ import annotations

import json
from typing import Any

from edgecompress.report.html.parts import details, facts, section, table
from edgecompress.report.html.svg import esc
from edgecompress.report.numbers import significant
from edgecompress.report.words.facts import (
    allowed_table,
    bytes_table,
    census_table,
    environment_facts,
    files_table,
    layers_table,
    not_int8_table,
    overhead_sentence,
    runtimes_table,
    stages_table,
    tensors_sentence,
    verification_facts,
    widths_table,
)
from edgecompress.report.words.making import making
from edgecompress.report.words.tables import Report
from edgecompress.report.words.usage import WRITTEN_CHANNELS

METADATA = "normalisation, labels.txt, vocab.txt ... in the format mobile libraries read; edgecompress inspect shows it"


def verification(report: Report) -> str:
    """Returns the verdict on the flatbuffer: agreement with its twin, operators and types, every layer."""
    found = report["verification"]
    if found is None:
        return ""
    body = (
        f'<div class="columns"><div><h3>Against its references</h3>{facts(verification_facts(report))}</div>'
        f"<div><h3>Operators in the file</h3>{table(census_table(found['census']))}"
        f'<p class="soft">{esc(tensors_sentence(found["census"]))}</p></div></div>'
    )
    faults = not_int8_table(report)
    if faults.rows:
        body += "<h3>Not INT8</h3>" + table(faults)
    allowed = allowed_table(report)
    if allowed.rows:
        body += "<h3>Not INT8, as the recipe allows</h3>" + table(allowed)
    runtimes = runtimes_table(report)
    if runtimes.rows:
        body += "<h3>The same file on other runtimes, against LiteRT</h3>" + table(runtimes)
    if found["layers"]:
        layers = f'<div class="tall">{table(layers_table(found["layers"]))}</div>'
        body += details(f"All {len(found['layers'])} operators against the twin, each given the same inputs", layers)
    sizes = bytes_table(report)
    if sizes.rows:
        told = f'<p class="soft">{esc(overhead_sentence(report))}</p>'
        body += details("Where the bytes of the file go", table(sizes) + told)
    return section("Verification", body)


def usage(report: Report) -> str:
    """Returns how to feed the flatbuffer and read its answer, with a program that does it."""
    given, answer = report["input"], report["output"]
    preparation = [("Normalisation", _normalization(given)), ("Mean and std are", given["normalization"])]
    if report["data"].get("kind") == "tokens":
        preparation = [("Normalisation", given["normalization"])]
    rows = [
        ("Input", _tensor(given)),
        ("From a value of the data to the input", given["formula"]),
        *preparation,
        ("Output", _tensor(answer)),
        ("From the output to scores", answer["formula"]),
    ]
    if report["recipe"]["export"].get("metadata"):
        rows.append(("TFLite metadata in the file", METADATA))
    return section(
        "How to use it",
        f"{facts(rows, code=True)}<h3>A Python program with this flatbuffer's own numbers</h3>"
        f"<pre><code>{esc(report['snippet'])}</code></pre>",
    )


def _normalization(given: dict[str, Any]) -> str:
    value = "(value - what was subtracted)" if given.get("subtracted") else "value"
    scaled = f"{value} * {significant(given['value_scale'], 6)}" if given["value_scale"] != 1 else value
    ends = "" if given["clip"] is None else f", ended at {-given['clip']:g} and {given['clip']:g}"
    return f"x = ({scaled} - mean) / std{ends}, mean {_list(given['mean'])}, std {_list(given['std'])}"


def _tensor(tensor: dict[str, Any]) -> str:
    shape = " x ".join(str(side) for side in tensor["shape"])
    layout = " (NHWC)" if len(tensor["shape"]) == 4 else ""  # noqa: PLR2004 - batch, height, width, channels
    grid = f", scale {tensor['scale']:.8g}, zero point {tensor['zero_point']}" if tensor["scale"] is not None else ""
    return f"{tensor['dtype']} [{shape}]{layout}{grid}"


def _list(values: list[float]) -> str:
    if len(values) > WRITTEN_CHANNELS:
        return f"of {len(values)} channels in report.json"
    shown = [f"{value:.5g}" for value in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def made(report: Report) -> str:
    """Returns what distillation, pruning and quantization did."""
    blocks = "".join(f"<div><h3>{title}</h3>{facts(rows)}</div>" for title, rows in making(report))
    if not blocks:
        return ""
    widths = widths_table(report["pruning"])
    body = f'<div class="columns">{blocks}</div>'
    if widths.rows:
        body += details("Width of every layer before and after", f'<div class="tall">{table(widths)}</div>')
    return section("How it was made", body)


def stages_and_recipe(report: Report) -> str:
    """Returns the stages with their times, the environment, hashes, and the recipe as it was resolved."""
    recipe = json.dumps(report["recipe"], indent=2, ensure_ascii=False)
    body = (
        f'<div class="columns"><div><h3>Stages</h3>{table(stages_table(report))}</div>'
        f"<div><h3>Environment</h3>{facts(environment_facts(report))}</div></div>"
        f'<div class="hashes">{table(files_table(report))}</div>'
    )
    return section(
        "Stages, environment, recipe",
        body + details("The recipe, every default filled in", f"<pre>{esc(recipe)}</pre>"),
    )
