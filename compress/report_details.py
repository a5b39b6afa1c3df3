"""The lower half of report.html: verification, how to use the flatbuffer, how it was made."""

from __future__ import annotations

import json
from typing import Any

from compress.report_format import number, percent, significant
from compress.report_html_parts import details, facts, section, table
from compress.report_svg import esc
from compress.report_tables import (
    Report,
    Table,
    census_table,
    layers_table,
    sparsity_sentence,
    stages_table,
    widths_table,
)


def verification(report: Report) -> str:
    """Returns the verdict on the flatbuffer: agreement with its twin, operators and types, every layer."""
    found = report["verification"]
    if found is None:
        return ""
    rows = [("Verdict", "passed" if found["passed"] else "FAILED"), ("Test samples", number(found["test_samples"]))]
    twin = found["twin"]
    if twin is not None:
        rows += [
            ("Same answer as the quantized twin", percent(twin["same"])),
            ("Accuracy of the twin", percent(twin.get("accuracy"))),
            (
                "Outputs differ from the twin's by",
                f"{significant(twin['mean_steps'])} steps on average, {significant(twin['max_steps'])} at most "
                "(a step is the output's scale)",
            ),
        ]
    rows.append(("Same answer as the float model", percent(found["float_agreement"])))
    if twin is not None:
        rows.append(("First layer that differs from the twin", found["first_differing_layer"] or "none"))
    if report["sparsity"] is not None:
        rows.append(("Zeros", sparsity_sentence(report["sparsity"])))
    census = found["census"]
    tensors = ", ".join(f"{number(count)} {dtype}" for dtype, count in sorted(census["tensors"].items()))
    body = (
        f'<div class="columns"><div><h3>Against its references</h3>{facts(rows)}</div>'
        f"<div><h3>Operators in the file</h3>{table(census_table(census))}"
        f'<p class="soft">Tensors: {esc(tensors)}</p></div></div>'
    )
    if census["not_int8"] and report["models"][-1]["flatbuffer"]["dtype"] == "int8":
        held = tuple((item["op"], item["layer"], item["dtype"], item["why"]) for item in census["not_int8"])
        body += "<h3>Not INT8</h3>" + table(Table(("Operator", "Layer", "Type", "Why"), held))
    if found["layers"]:
        layers = f'<div class="tall">{table(layers_table(found["layers"]))}</div>'
        body += details(f"All {len(found['layers'])} operators against the twin, each given the same inputs", layers)
    return section("Verification", body)


def usage(report: Report) -> str:
    """Returns how to feed the flatbuffer and read its answer, with a program that does it."""
    given, answer = report["input"], report["output"]
    rows = [
        ("Input", _tensor(given)),
        ("From a value of the data to the input", given["formula"]),
        (
            "Normalisation",
            f"x = (value * {significant(given['value_scale'], 6)} - mean) / std, mean {_list(given['mean'])}, "
            f"std {_list(given['std'])}",
        ),
        ("Mean and std are", given["normalization"]),
        ("Output", _tensor(answer)),
        ("From the output to scores", answer["formula"]),
    ]
    return section(
        "How to use it",
        f"{facts(rows, code=True)}<h3>A Python program with this flatbuffer's own numbers</h3>"
        f"<pre><code>{esc(report['snippet'])}</code></pre>",
    )


def _tensor(tensor: dict[str, Any]) -> str:
    shape = " x ".join(str(side) for side in tensor["shape"])
    layout = " (NHWC)" if len(tensor["shape"]) == 4 else ""  # noqa: PLR2004 - batch, height, width, channels
    grid = f", scale {tensor['scale']:.8g}, zero point {tensor['zero_point']}" if tensor["scale"] is not None else ""
    return f"{tensor['dtype']} [{shape}]{layout}{grid}"


def _list(values: list[float]) -> str:
    shown = [f"{value:.5g}" for value in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def making(report: Report) -> str:
    """Returns what distillation, pruning and quantization did."""
    parts = []
    for key, title in (("distillation", "Distillation"), ("pruning", "Pruning"), ("quantization", "Quantization")):
        found = report[key]
        if found is None:
            continue
        rows = [(_words(name), _value(value)) for name, value in found.items() if not isinstance(value, dict | list)]
        parts.append(f"<div><h3>{title}</h3>{facts(rows)}</div>")
    if not parts:
        return ""
    body = f'<div class="columns">{"".join(parts)}</div>'
    pruning = report["pruning"] or {}
    if pruning.get("widths"):
        body += details("Width of every layer before and after", f'<div class="tall">{table(widths_table(pruning))}</div>')
    return section("How it was made", body)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, int):
        return number(value)
    return significant(value, 4) if isinstance(value, float) else str(value)


def stages_and_recipe(report: Report) -> str:
    """Returns the stages with their times, the environment, and the recipe as it was resolved."""
    environment = dict(report["environment"] or {})
    versions = environment.pop("versions", {}) or {}
    rows = [(_words(name), _value(value)) for name, value in environment.items() if not isinstance(value, dict | list)]
    rows += [(name, str(version)) for name, version in sorted(versions.items()) if version is not None]
    files = "".join(
        f"<tr><td>{esc(name)}</td><td><code>{esc(digest)}</code></td></tr>" for name, digest in report["files"].items()
    )
    body = (
        f'<div class="columns"><div><h3>Stages</h3>{table(stages_table(report))}</div>'
        f"<div><h3>Environment</h3>{facts(rows)}</div></div>"
    )
    if files:
        body += "<h3>Files (SHA-256)</h3>" + f'<div class="scroll"><table><tbody>{files}</tbody></table></div>'
    body += f'<p class="soft">Data: {esc(report["data"]["source"])}, SHA-256 <code>{esc(report["data"]["sha256"])}</code></p>'
    recipe = json.dumps(report["recipe"], indent=2, ensure_ascii=False)
    return section("Stages, environment, recipe", body + details("The recipe, every default filled in", f"<pre>{esc(recipe)}</pre>"))
