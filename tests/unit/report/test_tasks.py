"""Reports of other tasks than classification: their own figures everywhere, their own plots."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgecompress.report.html.outcome import outcome_html
from edgecompress.report.html.page import html_report
from edgecompress.report.markdown import markdown_report
from edgecompress.report.picture import picture
from edgecompress.report.words.compare import compare
from edgecompress.report.words.data import data_facts
from edgecompress.report.words.facts import training_table, verification_facts
from edgecompress.report.words.making import making
from edgecompress.report.words.outcome import hits_table, predictions_table, sample_sentence, shown_prompt
from edgecompress.report.words.tables import headlines, models_table, ratios_table
from tests.unit.report import sample, task_samples
from tests.unit.report.test_pages import parsed

REPORTS = {task: task_samples.report(task) for task in task_samples.TASKS}


@pytest.mark.parametrize("task", task_samples.TASKS)
def test_pages_are_whole_and_speak_of_no_other_tasks_figure(task: str) -> None:
    report = REPORTS[task]
    page, text = html_report(report), markdown_report(report)
    assert parsed(report).open == []
    for document in (page, text):
        assert report["figure"]["label"] in document
        assert "Test accuracy" not in document
        assert "alidation accuracy" not in document
        assert not re.search(r"\b(None|nan)\b", re.sub(r"(?s)<pre>.*?</pre>|```.*?```", "", document))


@pytest.mark.slow
def test_the_picture_has_the_tasks_figure() -> None:
    assert picture(REPORTS["regression"])[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("task", "headline", "change", "ratio"),
    [
        (
            "regression",
            ("Test MAE", "2.5"),
            "+25.00 % (p = 0.2) against FP32 teacher",
            "+25.00 % (p = 0.2)",
        ),
        ("anomaly-detection", ("Test AUC", "93.00 %"), "-2.00 points (p = 0.2) against", "-2.00 points (p = 0.2)"),
        ("language-modeling", ("Test perplexity", "9.4"), "+17.50 % (p = 0.2) against", "+17.50 % (p = 0.2)"),
    ],
)
def test_headlines_and_ratios_tell_the_main_figure(
    task: str, headline: tuple[str, str], change: str, ratio: str
) -> None:
    report = REPORTS[task]
    _, _, told, agreement = headlines(report)
    assert (told.title, told.value) == headline
    assert told.details[0].startswith(change)
    assert all("±" not in detail for detail in told.details)
    noun = "tokens" if task == "language-modeling" else "samples"
    assert agreement.details[0] == f"test {noun} with the float model's answer"
    table = ratios_table(report)
    assert table.rows[0][table.headers.index(report["figure"]["label"].replace("perplexity", "Perplexity"))] == ratio
    assert report["ratios"]["against_teacher"]["accuracy_points"] is None
    assert report["ratios"]["against_teacher"]["lost"] > 0


def test_every_figure_has_a_column() -> None:
    table = models_table(REPORTS["language-modeling"])
    shown = dict(zip(table.headers, table.rows[-1], strict=True))
    assert (shown["Test perplexity"], shown["Bits per byte"], shown["Next-token accuracy"]) == (
        "9.4",
        "2.35",
        "57.65 %",
    )
    assert REPORTS["regression"]["models"][-1]["metrics"] == task_samples.FIGURES["regression"][-1]
    assert REPORTS["regression"]["models"][-1]["accuracy_standard_error"] is None


def test_the_best_epoch_is_the_one_with_the_smallest_error() -> None:
    report = task_samples.report("regression", steps=(sample.step("teacher", 1.0, curve=curve(3.0, 1.5, 2.0)),))
    (row,) = training_table(report).rows
    assert row[-3:] == ("3", "1.5", "2")


def curve(*values: float) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"epoch": number, "loss": 1.0, "learning_rate": 0.1, "validation_mae": value}
        for number, value in enumerate(values, start=1)
    )


def test_what_was_made_is_told_in_the_tasks_figure() -> None:
    told = dict(fact for _, facts in making(REPORTS["regression"]) for fact in facts)
    assert told["Validation MAE before"] == "2.2"
    assert told["Validation MAE, calibrated only"] == "2.6"
    assert told["Validation MAE of the result"] == "2.5"
    assert told["Repairs, and what was still lost"].endswith("1.25 %")
    anomalies = dict(fact for _, facts in making(REPORTS["anomaly-detection"]) for fact in facts)
    assert anomalies["Validation AUC of the result"] == "2.50 %"
    assert anomalies["Repairs, and what was still lost"].endswith("1.25 points")


def test_the_twin_is_compared_by_numbers_or_tokens() -> None:
    numbers = dict(verification_facts(REPORTS["regression"]))
    assert numbers["Within two steps of the quantized twin"] == "99.93 % of the numbers, 10,000 samples"
    assert numbers["MAE of the twin"] == "2.5"
    tokens = dict(verification_facts(REPORTS["language-modeling"]))
    assert tokens["Same answer as the quantized twin"] == "99.93 % of 10,000 tokens"
    assert tokens["Perplexity of the twin"] == "9.4"


def test_budget_lines_of_other_figures() -> None:
    lines = {line["name"]: line for line in REPORTS["regression"]["budget"]["lines"]}
    assert [lines[key]["passed"] for key in ("mae", "rmse", "r2", "drop_percent")] == [True, True, True, False]
    assert (
        lines["drop_percent"]["text"] == "rise of MAE against the FP32 teacher resnet9: 25.00 %, at most 20 % allowed"
    )
    assert lines["mae"]["text"] == "test MAE: 2.500, at most 3 allowed"
    anomalies = {line["name"]: line for line in REPORTS["anomaly-detection"]["budget"]["lines"]}
    assert anomalies["auc"]["text"] == "test AUC: 93.00 %, at least 94 % needed"
    assert anomalies["drop_percent"]["text"].startswith("loss of AUC against the FP32 teacher resnet9: 2.11 %")


def test_what_the_samples_are() -> None:
    regression = dict(data_facts(REPORTS["regression"]))
    assert regression["Samples"] == "rows of 3 numbers"
    assert regression["To predict: minutes <till> noon"] == "output * 8 + 40"
    assert regression["To predict: flat"] == "output * 1 - 1"
    audio = dict(data_facts(REPORTS["anomaly-detection"]))
    assert audio["Samples"] == "series of 49 steps with 40 values each"
    assert "sample_rate 16,000" in audio["Front end"]
    text = dict(data_facts(REPORTS["language-modeling"]))
    assert text["Vocabulary"] == "word, 1,000 tokens, small letters (vocabulary.json)"
    assert data_facts(sample.report()) == []


def test_predictions_anomalies_and_text_are_shown() -> None:
    plots = task_samples.PLOTS
    assert predictions_table(plots["regression"]).rows[1] == ("flat", "0", "0", "-")
    html = outcome_html(plots["regression"])
    assert "minutes &lt;till&gt; noon" in html
    assert html.count("<circle") == 6
    assert hits_table(plots["anomaly-detection"]).rows[1] == ("5.00 %", "62.00 %")
    html = outcome_html(plots["anomaly-detection"])
    assert "40 normal, score" in html
    assert "38 anomalous, score" in html
    text = plots["language-modeling"]["sample"]
    html, markdown = outcome_html(plots["language-modeling"]), markdown_report(REPORTS["language-modeling"])
    assert "It was &lt;b&gt; " in html
    assert "It was <b> a *dark* night" in markdown
    assert "14 tokens" in sample_sentence(text)
    assert shown_prompt({"prompt": "x" * 300}) == "..." + "x" * 200
    assert outcome_html({}) == ""


def test_normal_samples_alone_are_shown_without_a_curve() -> None:
    html = outcome_html({"scores": {"edges": [0.1, 1.0], "normal": [3], "anomalous": [0]}})
    assert "3 normal, score" in html
    assert "Receiver" not in html


def test_runs_of_one_task_are_compared_by_its_figure() -> None:
    better = task_samples.report("regression")
    better["models"][-1]["metrics"] = {**better["models"][-1]["metrics"], "mae": 2.25}
    found = compare([("a", REPORTS["regression"]), ("b", better)])
    assert found.rows[1]["figure"] == "mae"
    assert found.rows[1]["lost"] == pytest.approx(-10.0)
    assert found.rows[1]["teacher_lost"] == pytest.approx(12.5)
    assert found.rows[1]["accuracy_points"] is None
    shown = dict(zip(found.table.headers, found.table.rows[1], strict=True))
    assert (shown["Test MAE"], shown["Against first"], shown["Against teacher"]) == (
        "2.25", "-10.00 %", "+12.50 % (p = 0.2)",
    )  # fmt: skip


def test_runs_of_two_tasks_are_shown_but_not_compared() -> None:
    found = compare([("a", REPORTS["regression"]), ("b", sample.report())])
    assert found.rows[1]["lost"] is None
    assert "Test figure" in found.table.headers
    assert any("different tasks" in note for note in found.notes)
