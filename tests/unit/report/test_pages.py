"""report.html and report.md: whole, self-contained, with everything in them."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from edgecompress.report.html.page import html_report
from edgecompress.report.html.plots import confusion_matrix, latency_bars
from edgecompress.report.markdown import code_block, escaped, markdown_report
from edgecompress.report.words.tables import verdict
from tests.unit.report import sample

VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "teacherless": {"models": sample.without("teacher"), "distillation": None},
    "studentless": {"models": sample.without("student")},
    "unverified": {"verification": None},
    "failed": {"verification": sample.failed()},
    "sparse": {
        "sparsity": sample.SPARSITY,
        "models": (*sample.without("quantized"), replace(sample.RESULT, nonzero_params=4_000)),
    },
    "bare": {"plots": {}, "pruning": None, "distillation": None, "quantization": None, "files": {}, "steps": ()},
}


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects attributes and scripts."""

    VOID = ("meta", "br", "wbr", "circle", "line", "rect", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        assert self.open
        assert self.open.pop() == tag


def parsed(report: dict[str, Any]) -> Page:
    page = Page()
    page.feed(html_report(report))
    page.close()
    assert page.open == []
    return page


@pytest.mark.parametrize("variant", VARIANTS)
def test_page_is_well_formed_and_self_contained(variant: str) -> None:
    page = parsed(sample.report(**VARIANTS[variant]))
    tags = {tag for tag, _, _ in page.attributes}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not [one for one in page.attributes if one[1] in {"src", "href", "srcset", "action"} or one[1][:2] == "on"]
    text = html_report(sample.report(**VARIANTS[variant]))
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_text_from_outside_is_escaped_everywhere() -> None:
    evil = '<script>alert("x")</script>\x1b]0;title\x07\x9b'
    full = sample.inputs()
    classes = (evil, *sample.CLASSES[1:])
    rows = tuple(replace(row, model=evil) for row in full.models)
    report = sample.report(
        data=replace(full.data, source=evil, classes=classes, origin=evil, notes=(evil,)),
        models=rows,
        plots={**full.plots, "class_names": list(classes)},
        pruning={**(full.pruning or {}), "method": evil, "widths": {evil: [2, 1]}},
        environment={**full.environment, "cpu": evil, "versions": {evil: evil}},
        verification=sample.failed(layers=({**sample.LAYERS[0], "layer": evil},)),
        files={evil: evil},
    )
    page = html_report(report)
    assert "<script" not in page
    assert r"&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;\x1b]0;title\x07" in page
    for text in (page, markdown_report(report)):
        assert not set(text) & set("\x1b\x07\x9b")


def test_page_shows_what_a_reader_looks_for() -> None:
    page = html_report(sample.report())
    for text in (
        "Good: verified, within budget on all 4 lines.", "122x smaller", "FP32 teacher resnet9", "FP32 student resnet8",
        "5,960.7 KiB", "99.18 %", "Confusion matrix", "Accuracy against size", "Latency on litert", "CONV_2D",
        "Example CPU @ 2.90GHz", "def classify(", "Before you rely on this", "Quantization-aware training",
        "accuracy_<wbr>drop_<wbr>points", "5a5a5a5a", "ai-edge-litert",
    ):  # fmt: skip
        assert text in page, text


def test_verdicts() -> None:
    assert verdict(sample.report()).text == "Good: verified, within budget on all 4 lines."
    tight = sample.recipe(budget={"size_kib": 10, "latency_ms": 0.5})
    assert verdict(sample.report(tight)).text == "Failed: budget missed (size_kib)."
    failed = verdict(sample.report(tight, verification=sample.failed()))
    assert failed.text == "Failed: do not ship this flatbuffer, its verification failed."
    assert failed.reasons == (
        "MEAN (layer pool) holds float32: it writes float32 values",
        "flatbuffer size: 53.2 KiB, at most 10 KiB allowed",
    )
    assert verdict(sample.report(sample.recipe(budget=None))).text == "Good: verified, no budget set."
    assert verdict(sample.report(sample.recipe(budget={"size_kib": 99}))).text == "Good: verified, within budget."
    unverified = sample.report(sample.recipe(budget=None), verification=None)
    assert verdict(unverified).text == "Good: not verified, no budget set."
    older = {key: value for key, value in sample.report(tight).items() if key not in ("verdict", "evidence")}
    assert (verdict(older).status, len(verdict(older).reasons)) == ("failed", 1)


def test_plots_leave_out_what_cannot_be_drawn() -> None:
    many = {"confusion_matrix": [[0] * 50] * 50, "class_names": [str(k) for k in range(50)]}
    assert confusion_matrix(many) == ""
    assert confusion_matrix({}) == ""
    assert latency_bars(sample.report(), "tensorflow") == ""
    names = [f"a class of a very long name {k}" for k in range(30)]
    unnumbered = confusion_matrix({"confusion_matrix": np.eye(30, dtype=int).tolist(), "class_names": names})
    assert "cell-text" not in unnumbered
    assert "a class of a …" in unnumbered
    rows = tuple(replace(row, accuracy=None, latency={}) for row in sample.inputs().models)
    assert "Size, accuracy and latency" not in html_report(sample.report(models=rows))
    shares = {"class_names": names, "per_class_accuracy": [None, *range(29)]}
    assert "The 20 classes with the lowest accuracy" in html_report(sample.report(plots=shares))


@pytest.mark.parametrize("variant", VARIANTS)
def test_tables_have_as_many_cells_as_headers(variant: str) -> None:
    text = markdown_report(sample.report(**VARIANTS[variant]))
    blocks = re.findall(r"(?:^\|.*\|\n)+", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    assert len(blocks) >= 3
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
        assert re.fullmatch(r"\|( -{3}:? \|)+", block.splitlines()[1])


def test_markdown_escapes_markup_and_fences() -> None:
    assert escaped("a|b `c` <d> [e](f)\n*g*") == r"a\|b \`c\` \<d\> \[e\](f) \*g\*"
    assert code_block("```\nx\n```", "text") == "````text\n```\nx\n```\n````"


def test_markdown_says_all_of_it() -> None:
    text = markdown_report(sample.report(verification=sample.failed(), sparsity=sample.SPARSITY))
    for part in (
        "\N{LARGE RED CIRCLE} **Failed: do not ship this flatbuffer, its verification failed.**\n\n- MEAN (layer pool)",
        "Not INT8:",
        "## Training", "| Teacher | 15 |", "## Confusion matrix", "### Pruning", "## Environment", "## Stages",
        "| stem | 16 | 16 | 0 % |", "910 weights are zero in the file (91.00 % of its weights)",
        "- Processor: Example CPU @ 2.90GHz", "Weight of the soft targets (labels weigh the rest): 0.7",
    ):  # fmt: skip
        assert part in text, part
