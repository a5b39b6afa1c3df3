"""report.md: the report in short, as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgecompress.report.numbers import number
from edgecompress.report.schema import PICTURE
from edgecompress.report.words.analysis import LEGEND, SHOWN_LAYERS, analysis_sentence, analysis_table
from edgecompress.report.words.data import data_facts
from edgecompress.report.words.facts import (
    Fact,
    allowed_table,
    census_table,
    confusion_table,
    confusions,
    environment_facts,
    files_table,
    not_int8_table,
    overhead_sentence,
    runtimes_table,
    stages_table,
    tensors_sentence,
    training_table,
    verification_facts,
    widths_table,
)
from edgecompress.report.words.making import making
from edgecompress.report.words.outcome import hits_table, predictions_table, sample_sentence, shown_prompt
from edgecompress.report.words.tables import (
    Report,
    Table,
    budget_table,
    figure_of,
    headlines,
    models_table,
    ratios_table,
    verdict,
)
from edgecompress.wording import printable

#: Status -> a sign in its colour, which every viewer of Markdown shows.
SIGNS = {
    "good": "\N{LARGE GREEN CIRCLE}",
    "doubtful": "\N{LARGE YELLOW CIRCLE}",
    "failed": "\N{LARGE RED CIRCLE}",
}
#: Characters that would start markup inside a line of text.
MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~]|&(?=#?\w+;))")


#: What GitHub turns into something else wherever it stands, also behind a backslash: people's and teams' names, issues,
#: commits, addresses on the web and of mail, pictures by their names, formulas.
REFERENCE = re.compile(
    r"@\w|[#!]\d|(?<!\w)(?:gh-\d|ghsa-)|://|(?<!\w)www\.|(?<!\w)(?:mailto|xmpp):|(?<!\w):[a-z+_-][\w+-]*:|\$"
    r"|(?<![^\W_])(?=\d*[a-f])[\da-f]{7,64}(?![^\W_])",
    re.IGNORECASE,
)
#: A word without what would end code, and each of those.
WORDS = re.compile(r"[^\s|`]+|[|`]")
#: A word between brackets, quotation marks and commas.
CORE = re.compile(r"([(\[{\"'*,;]*)(.*?)([)\]}\"'*.,;:!?]*)")
#: What makes a list, a line or a heading of a paragraph that begins with it.
BEGINNING = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+=](?:\s|$)|-{2,}$|={2,}$))")


def escaped(text: object) -> str:
    """Returns a paragraph that Markdown shows as it is, on one line; what GitHub would link is set as code."""
    return BEGINNING.sub(r"\1\\", cell(text))


def cell(text: object) -> str:
    """Returns the same for a table's cell."""
    return WORDS.sub(lambda word: _word(word[0]), printable(" ".join(str(text).split())))


def _word(text: str) -> str:
    parts = CORE.fullmatch(text) if REFERENCE.search(text) else None
    if parts is None or not parts[2]:
        return _plain(text)
    return f"{_plain(parts[1])}`{parts[2]}`{_plain(parts[3])}"


def _plain(text: str) -> str:
    return MARKUP.sub(r"\\\1", text)


def code_block(text: str, language: str) -> str:
    """Returns a fenced block whose fence is longer than any run of backticks in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(found: Table) -> str:
    """Returns a GFM table; numbers are set flush right."""
    lines = [
        "| " + " | ".join(cell(name) for name in found.headers) + " |",
        "| " + " | ".join("---:" if name in found.right else "---" for name in found.headers) + " |",
    ]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in found.rows]
    return "\n".join(lines)


def bullets(sentences: Iterable[str]) -> str:
    """Returns a list."""
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def facts(rows: Iterable[Fact]) -> str:
    """Returns a list of names with their values."""
    return bullets(f"{name}: {value}" for name, value in rows)


def markdown_report(report: Report) -> str:
    """Returns the report: verdict, figures, models, budget, warnings, verification, training, how to use it, origin."""
    data, judged = report["data"], verdict(report)
    about = (
        f"{report['task']} on {data['source']} ({number(data['train'])} training, {number(data['validation'])} "
        f"validation, {number(data['test'])} test samples), seed {report['seed']}, {report['created_at']}, "
        f"edgecompress {report['edgecompress']}."
    )
    figures = [
        f"{one.title}: {one.value}" + (f" ({'; '.join(one.details)})" if one.details else "")
        for one in headlines(report)
    ]
    parts = [
        f"# {escaped(report['name'])}",
        f"{SIGNS[judged.status]} **{escaped(judged.text)}**",
        *([bullets(judged.reasons)] if judged.reasons else []),
        escaped(about),
        bullets(figures),
        f"![{escaped(figure_of(report).title)} against size, and latency]({PICTURE})",
        "## Models",
        table(models_table(report)),
        *_tables("Ratios are reference / result: above 1 the result is smaller or faster.", ratios_table(report)),
        *_tables("## Budget", budget_table(report)),
    ]
    described = data_facts(report)
    if described:
        parts += ["## Data", facts(described)]
    if report["warnings"]:
        parts += ["## Before you rely on this", bullets(report["warnings"])]
    parts += _verification(report)
    parts += _layers(report)
    parts += _tables("## Training", training_table(report))
    parts += _classes(report)
    parts += _outcome(report)
    parts += [
        "## How to use it",
        code_block(f"{report['input']['formula']}\n{report['output']['formula']}", "text"),
        code_block(report["snippet"], "python"),
    ]
    parts += _making(report)
    parts += [
        "## Stages",
        table(stages_table(report)),
        "## Environment",
        facts(environment_facts(report)),
        table(files_table(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _tables(title: str, *found: Table) -> list[str]:
    """Returns a title and the tables that have rows; nothing where none has."""
    filled = [table(one) for one in found if one.rows]
    return [title, *filled] if filled else []


def _verification(report: Report) -> list[str]:
    found = report["verification"]
    if found is None:
        return []
    census = found["census"]
    return [
        "## Verification",
        facts(verification_facts(report)),
        table(census_table(census)),
        escaped(tensors_sentence(census)),
        *[escaped(sentence) for sentence in (overhead_sentence(report),) if sentence],
        *_tables("Not INT8:", not_int8_table(report)),
        *_tables("Not INT8, as the recipe allows:", allowed_table(report)),
        *_tables("On other runtimes:", runtimes_table(report)),
    ]


def _layers(report: Report) -> list[str]:
    found = report.get("analysis")
    if not found:
        return []
    shown = analysis_table(found["layers"][:SHOWN_LAYERS])
    text = escaped(f"{analysis_sentence(found)} {LEGEND}")
    return ["## What quantization costs, layer by layer", escaped(found["conclusion"]), table(shown), text]


def _classes(report: Report) -> list[str]:
    plots = report["plots"] or {}
    mistakes = confusions(plots)
    parts = _tables("## Confusion matrix", confusion_table(plots))
    return [*parts, "Most often confused:", bullets(mistakes)] if mistakes else parts


def _outcome(report: Report) -> list[str]:
    plots = report["plots"] or {}
    parts = _tables("## Predicted against true", predictions_table(plots))
    parts += _tables("## Normal and anomalous", hits_table(plots))
    sample = plots.get("sample")
    if sample:
        text = f"{shown_prompt(sample)}{sample['text']}"
        parts += ["## Text that the flatbuffer wrote", escaped(sample_sentence(sample)), code_block(text, "text")]
    return parts


def _making(report: Report) -> list[str]:
    parts = ["## How it was made"]
    for title, rows in making(report):
        parts += [f"### {title}", facts(rows)]
        if title == "Pruning":
            parts += _tables("Widths of the layers:", widths_table(report["pruning"]))
    return parts if len(parts) > 1 else []
