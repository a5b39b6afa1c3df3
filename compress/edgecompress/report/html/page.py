"""report.html: one self-contained page, plots inside, no script and no external resource."""

from __future__ import annotations

import re
from typing import Any

from edgecompress.report.html.analysis import section_html
from edgecompress.report.html.details import made, stages_and_recipe, usage, verification
from edgecompress.report.html.outcome import outcome_html
from edgecompress.report.html.parts import bullets, cell, facts, section, table
from edgecompress.report.html.plots import (
    accuracy_against_size,
    confusion_matrix,
    latency_bars,
    style_of,
    training_curve,
)
from edgecompress.report.html.style import STYLE
from edgecompress.report.html.svg import esc
from edgecompress.report.words.data import data_facts
from edgecompress.report.words.facts import STAGE_TITLES, confusions, training_curves
from edgecompress.report.words.tables import (
    Headline,
    Report,
    budget_table,
    figure_of,
    headlines,
    models_table,
    ratios_table,
    verdict,
)
from edgecompress.wording import counted

#: With more classes than this only the worst ones are listed.
LISTED_CLASSES = 20


def html_report(report: Report) -> str:
    """Returns the page; every string from outside is escaped."""
    parts = [
        _header(report), _budget(report), _warnings(report), _data(report), _models(report), _trade_off(report),
        _curves(report), _classes(report), outcome_html(report["plots"] or {}), verification(report),
        section_html(report), usage(report), made(report), stages_and_recipe(report),
    ]  # fmt: skip
    name = esc(report["name"])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{name}: edgecompress report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<footer>Written by edgecompress {esc(report['edgecompress'])}. "
        "The same figures are in report.json.</footer>\n</main>\n</body>\n</html>\n"
    )


def _header(report: Report) -> str:
    judged = verdict(report)
    data = report["data"]
    samples = f"{data['train']:,} training, {data['validation']:,} validation, {data['test']:,} test samples"
    facts = [
        report["task"].replace("-", " "),
        f"{data['source']}: {samples}",
        counted(len(data["classes"]), "class", "classes") if data["classes"] else "",
        f"seed {report['seed']}",
        report["created_at"].replace("T", " ").replace("+00:00", " UTC"),
    ]
    reasons = f'<div class="reasons {judged.status}">{bullets(judged.reasons)}</div>\n' if judged.reasons else ""
    tiles = "".join(_tile(one) for one in headlines(report))
    return (
        f'<header><h1>{esc(report["name"])}</h1>\n<div class="facts">'
        + "".join(f"<span>{esc(fact)}</span>" for fact in facts if fact)
        + f'</div>\n<div class="verdict {judged.status}">{esc(judged.text)}</div>\n'
        f"{reasons}"
        f'<div class="tiles">{tiles}</div></header>'
    )


def _tile(one: Headline) -> str:
    details = "".join(f'<div class="detail">{_leading_figure(text)}</div>' for text in one.details)
    head = f'<div class="title">{esc(one.title)}</div><div class="value">{esc(one.value)}</div>'
    return f'<div class="tile">{head}{details}</div>'


def _leading_figure(text: str) -> str:
    """Returns escaped text with the figure it starts with (`62.3x smaller`, `-0.35 points`) set bold."""
    text = re.sub(r"(?<=\d) (?=KiB|ms|%|points)", "\N{NO-BREAK SPACE}", text)
    match = re.match(r"[-+]?[\d.,]+(x \w+|\spoints|\s%)", text)
    return f"<b>{esc(match[0])}</b>{esc(text[match.end() :])}" if match else esc(text)


def _budget(report: Report) -> str:
    lines = report["budget"]["lines"]
    if not lines:
        return ""
    found = budget_table(report)
    body = "".join(
        f'<tr><td class="key"><code>{esc(name).replace("_", "_<wbr>")}</code></td><td>{esc(text)}</td>'
        f'<td class="{"kept" if line["passed"] else "missed"}">{esc(judged)}</td></tr>'
        for line, (name, text, judged) in zip(lines, found.rows, strict=True)
    )
    return section("Budget", table(found, body=body))


def _warnings(report: Report) -> str:
    return section("Before you rely on this", bullets(report["warnings"]), "notice") if report["warnings"] else ""


def _data(report: Report) -> str:
    rows = data_facts(report)
    return section("Data", facts(rows)) if rows else ""


def _models(report: Report) -> str:
    found = models_table(report)
    body = ""
    for row, cells in zip(report["models"], found.rows, strict=True):
        swatch = f'<span class="swatch {style_of(row["key"]).replace("m-", "b-")}"></span>'
        body += f"<tr{' class=result' if row is report['models'][-1] else ''}>"
        body += "".join(cell(text, right=place > 0, before="" if place else swatch) for place, text in enumerate(cells))
        body += "</tr>"
    benchmark, binomial = report["benchmark"], figure_of(report).binomial
    scored, noise = (
        ("Accuracies are", ", with their 95 % interval (Wilson's)") if binomial else ("Test figures are", "")
    )
    note = (
        f"{scored} on the {report['data']['test']:,} test samples{noise}. Latency is for one "
        f"sample on {counted(benchmark['threads'], 'thread')}, {counted(benchmark['runs'], 'run')} per flatbuffer, "
        "interleaved. "
        "All but the result are float32 flatbuffers."
    )
    ratios = ratios_table(report)
    compared = (
        "<h3>How many times smaller and faster the result is (reference / result)</h3>" + table(ratios)
        if ratios.rows
        else ""
    )
    return section(
        "Models", f'<div class="models">{table(found, body=body)}</div>{compared}<p class="soft">{esc(note)}</p>'
    )


def _trade_off(report: Report) -> str:
    plots = []
    scatter = accuracy_against_size(report)
    if scatter:
        plots.append(f"<div><h3>{esc(figure_of(report).title)} against size</h3>{scatter}</div>")
    for runtime in report["benchmark"]["runtimes"]:
        bars = latency_bars(report, runtime)
        if bars:
            plots.append(f"<div><h3>Latency on {esc(runtime)}, p50 with a mark at p95</h3>{bars}</div>")
    return (
        section(f"Size, {figure_of(report).label} and latency", f'<div class="columns">{"".join(plots)}</div>')
        if plots
        else ""
    )


def _curves(report: Report) -> str:
    plots = "".join(
        f"<div><h3>{esc(STAGE_TITLES.get(stage, stage))}</h3>{training_curve(stage, curve, report['task'])}</div>"
        for stage, curve in training_curves(report)
    )
    return section("Training", f'<div class="curves">{plots}</div>') if plots else ""


def _classes(report: Report) -> str:
    plots: dict[str, Any] = report["plots"] or {}
    matrix = confusion_matrix(plots)
    shares = _class_shares(plots)
    mistakes = confusions(plots)
    confused = f"<h3>Most often confused</h3>{bullets(mistakes)}" if mistakes else ""
    parts = [
        f"<div><h3>Confusion matrix</h3>{matrix}</div>" if matrix else "",
        f"<div>{shares}{confused}</div>" if shares or confused else "",
    ]
    found = "".join(part for part in parts if part)
    return section("The result by class", f'<div class="columns">{found}</div>') if found else ""


def _class_shares(plots: dict[str, Any]) -> str:
    names, shares = plots.get("class_names"), plots.get("per_class_accuracy")
    if not names or not shares:
        return ""
    known = [(str(name), share) for name, share in zip(names, shares, strict=True) if share is not None]
    many = len(known) > LISTED_CLASSES
    if many:
        known = sorted(known, key=lambda item: item[1])[:LISTED_CLASSES]
    rows = "".join(
        f'<span>{esc(name)}</span><span class="track"><i style="width:{max(min(share, 100.0), 0.0):.1f}%"></i></span>'
        f"<span>{share:.1f} %</span>"
        for name, share in known
    )
    title = f"The {LISTED_CLASSES} classes with the lowest accuracy" if many else "Accuracy per class"
    return f'<h3>{title}</h3><div class="share">{rows}</div>'
