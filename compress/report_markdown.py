"""report.md: the report in short, as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from compress.report_format import number, percent
from compress.report_tables import (
    Report,
    Table,
    budget_table,
    census_table,
    confusions,
    headlines,
    models_table,
    ratios_table,
    sparsity_sentence,
    stages_table,
    verdict,
)

#: Characters that would start markup inside a line of text.
MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~])")


def escaped(text: object) -> str:
    """Returns text that Markdown shows as it is, on one line."""
    return MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def code_block(text: str, language: str) -> str:
    """Returns a fenced block whose fence is longer than any run of backticks in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(found: Table) -> str:
    """Returns a GFM table; numbers are set flush right."""
    lines = [
        "| " + " | ".join(escaped(name) for name in found.headers) + " |",
        "| " + " | ".join("---:" if name in found.right else "---" for name in found.headers) + " |",
    ]
    lines += ["| " + " | ".join(escaped(text) for text in row) + " |" for row in found.rows]
    return "\n".join(lines)


def bullets(sentences: Iterable[str]) -> str:
    """Returns a list."""
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def markdown_report(report: Report) -> str:
    """Returns the report: verdict, headline figures, models, budget, warnings, verification, how to use it, stages."""
    data = report["data"]
    facts = (
        f"{report['task']} on {data['source']} ({number(data['train'])} training, {number(data['validation'])} validation, "
        f"{number(data['test'])} test samples), seed {report['seed']}, {report['created_at']}, "
        f"edgecompress {report['edgecompress']}."
    )
    figures = [
        f"{one.title}: {one.value}" + (f" ({'; '.join(one.details)})" if one.details else "")
        for one in headlines(report)
    ]
    parts = [
        f"# {escaped(report['name'])}",
        f"**{escaped(verdict(report).text)}**",
        escaped(facts),
        bullets(figures),
        "## Models",
        table(models_table(report)),
    ]
    ratios = ratios_table(report)
    if ratios.rows:
        parts += ["Ratios are reference / result.", table(ratios)]
    if report["budget"]["lines"]:
        parts += ["## Budget", table(budget_table(report))]
    if report["warnings"]:
        parts += ["## Before you rely on this", bullets(report["warnings"])]
    parts += _verification(report)
    mistakes = confusions(report["plots"] or {})
    if mistakes:
        parts += ["## Most often confused", bullets(mistakes)]
    parts += [
        "## How to use it",
        code_block(f"{report['input']['formula']}\n{report['output']['formula']}", "text"),
        code_block(report["snippet"], "python"),
        "## Stages",
        table(stages_table(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _verification(report: Report) -> list[str]:
    found = report["verification"]
    if found is None:
        return []
    lines = [f"The flatbuffer {'passed' if found['passed'] else 'FAILED'} on {number(found['test_samples'])} test samples."]
    lines += found["reasons"]
    if found["twin_agreement"] is not None:
        lines.append(f"It gives the answer of its quantized twin on {percent(found['twin_agreement'])} of them.")
    if found["float_agreement"] is not None:
        lines.append(f"It gives the answer of the float model on {percent(found['float_agreement'])} of them.")
    if found["first_differing_layer"] is not None:
        lines.append(f"First layer that differs from the twin: {found['first_differing_layer']}.")
    if report["sparsity"] is not None:
        lines.append(sparsity_sentence(report["sparsity"]))
    return ["## Verification", bullets(lines), table(census_table(found["census"]))]
