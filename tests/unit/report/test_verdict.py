"""The verdict: what makes a run failed or doubtful, in which order it is said, and what no budget may excuse."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.report.html.page import html_report
from edgecompress.report.markdown import markdown_report
from edgecompress.report.verdict import assess, doubts_of, interval_text, listed, stage_doubts
from edgecompress.report.words.compare import compare
from tests.unit.report import sample, task_samples


def judged(limits: dict[str, float] | None = None, **evidence: Any) -> dict[str, Any]:
    """Returns the verdict of the sample run with some of the evidence changed, under a budget on its size alone."""
    asked = sample.recipe(budget={"size_kib": 64} if limits is None else limits)
    found: dict[str, Any] = sample.report(asked, evidence={**sample.EVIDENCE, **evidence})["verdict"]
    return found


def codes(found: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in found["reasons"]]


def scratch(steps: int, *, random: bool = True, stage: str = "distill") -> list[dict[str, Any]]:
    return [{"stage": stage, "steps": steps, "from_scratch": random}]


BLIND = sample.stands("teacher", 35.0, 18.1, 56.7, baseline=40.0, samples=20)
ORDER = {"key": "teacher", "accuracy": 80.0, "reordered": 99.5, "moved": [["cat", "dog"], ["dog", "cat"]]}
ORDERED = {"what": "order", "channel": None, "channels": 3, "train": 11.0, "test": -11.0, "factor": -1.0}
DROP = sample.pair("pruned", 2, 330, 1e-9, 3.28)


def test_a_sound_run_is_good() -> None:
    assert judged() == {"status": "good", "reasons": []}
    for task in task_samples.TASKS:
        report = task_samples.report(task)
        assert doubts_of(report["evidence"]) == []


@pytest.mark.parametrize(
    ("code", "evidence", "said"),
    [
        ("chance", {"models": [BLIND]}, "On 20 test samples the teacher has 35.00 % (18.1 to 56.7 %), which cannot be"),
        ("permuted", {"permuted": [ORDER]}, "answers 80.00 % right, but 99.50 % if its classes had another order"),
        ("permuted", {"permuted": [ORDER]}, "it answers `dog` for `cat` and `cat` for `dog`"),
        ("untrained", {"trainings": scratch(20)}, "The student was trained from random weights in 20 opt"),
        ("untrained", {"trainings": scratch(1, stage="teacher")}, "The teacher was trained from random weights in 1 o"),
        ("untrained", {"trainings": scratch(0)}, "The student has random weights: it was neither trained nor loaded"),
        ("collapse", {"paired": [DROP]}, "it loses 3.28 points of accuracy against the float model it was made from"),
        ("collapse", {"paired": [DROP]}, "(2 samples that only the result has right, 330 that it alone has wrong"),
        ("collapse", {"cosine": 0.91}, "have a cosine of 0.910 to the float model's, and 0.95 is the least."),
        ("collapse", {"cosine": 0.0}, "it answers always the same"),
        (
            "batch",
            {"batch": [{"key": "student", "samples": 16, "difference": 0.31, "unsteady": 0.0}]},
            "running a sample alone instead of with 15 others changes an output by up to 31 % of what all outputs span",
        ),
        (
            "batch",
            {"batch": [{"key": "teacher", "samples": 16, "difference": None, "unsteady": 0.0}]},
            "refuses a sample that comes alone",
        ),
        (
            "scale",
            {"scale": [{"what": "mean", "channel": 2, "channels": 3, "train": 104.7, "test": 0.41, "factor": 1.7}]},
            "The mean of channel 3 is 0.41 in test and 104.7 in train, 1.7 standard deviations apart, and 2 more",
        ),
        (
            "scale",
            {"scale": [{**ORDERED, "what": "spread", "train": 1.0, "test": 0.004, "factor": 0.004}]},
            "The standard deviation is 0.004 in test and 1 in train, 0.004 times as large.",
        ),
        (
            "scale",
            {"scale": [ORDERED]},
            "reverse order (RGB, BGR)",
        ),
    ],
)  # fmt: skip
def test_each_doubt(code: str, evidence: dict[str, Any], said: str) -> None:
    found = judged(**evidence)
    assert found["status"] == "doubtful"
    assert codes(found) == [code]
    assert said in found["reasons"][0]["text"]


@pytest.mark.parametrize(
    "evidence",
    [
        {"models": [sample.stands("teacher", 45.0, 40.1, 50.0, baseline=40.0)]},
        {"trainings": scratch(200)},
        {"trainings": scratch(3, random=False)},  # loaded, then fine-tuned
        {"paired": [sample.pair("pruned", 0, 3, 0.25, 12.0)]},  # a dozen points on few samples may be chance
        {"paired": [sample.pair("pruned", 10, 210, 1e-9, 2.0)]},
        {"paired": [DROP, sample.pair("pruned", 31, 37, 0.5, 0.06)]},  # what counts is the model it was made from
        {"cosine": 0.95},
        {"cosine": None},
        {"batch": [{"key": "student", "samples": 16, "difference": 1e-5, "unsteady": 0.0}]},
        {"batch": [{"key": "student", "samples": 16, "difference": 0.3, "unsteady": 0.2}]},  # random, batch or none
        {"batch": [{"key": "student", "samples": 1, "difference": 0.0, "unsteady": 0.0}]},
    ],
)
def test_what_is_no_doubt(evidence: dict[str, Any]) -> None:
    assert judged(**evidence) == {"status": "good", "reasons": []}


def test_errors_are_no_better_than_a_blind_answer_where_their_interval_reaches_it() -> None:
    blind = {"figure": "mae", "baseline": 2.0, "larger_is_better": False, "against": "always answering the mean"}
    for low, high, expected in ((1.1, 1.9, []), (1.1, 2.0, ["chance"]), (2.1, 3.0, ["chance"])):
        found = doubts_of({"models": [sample.stands("student", 1.5, low, high, **blind)]})
        assert [reason["code"] for reason in found] == expected
    (unknown,) = doubts_of({"models": [{**sample.stands("student", 1.5, 0, 0, **blind), "low": None, "high": None}]})
    assert "the student has 1.5, which cannot be told from always answering the mean (2)" in unknown["text"]


def test_models_by_chance_share_a_reason() -> None:
    found = judged(models=[BLIND, {**BLIND, "key": "quantized"}])
    assert codes(found) == ["chance"]
    assert "the teacher has 35.00 % (18.1 to 56.7 %) and the result has 35.00 %" in found["reasons"][0]["text"]


@pytest.mark.parametrize("key", ["accuracy_drop_points", "agreement", "accuracy"])
def test_a_budget_that_speaks_of_the_loss_decides_on_it(key: str) -> None:
    allowed = {"accuracy_drop_points": 50.0, "agreement": 50.0, "accuracy": 20.0}[key]
    assert judged({key: allowed}, paired=[DROP], cosine=0.2) == {"status": "good", "reasons": []}
    assert codes(judged({key: allowed}, models=[BLIND], cosine=0.2)) == ["chance"]


def test_failures_come_first_and_doubts_stay() -> None:
    report = sample.report(
        sample.recipe(budget={"size_kib": 10}),
        verification=sample.failed(),
        evidence={**sample.EVIDENCE, "models": [BLIND]},
    )
    assert report["verdict"]["status"] == "failed"
    assert codes(report["verdict"]) == ["verification", "budget", "chance"]


def test_reasons_are_told_in_one_order() -> None:
    batch = [{"key": "student", "samples": 16, "difference": 0.3, "unsteady": 0.0}]
    found = judged(models=[BLIND], permuted=[ORDER], trainings=scratch(7), cosine=0.1, batch=batch, scale=[ORDERED])
    assert codes(found) == ["chance", "permuted", "untrained", "collapse", "batch", "scale"]


def test_a_finished_stage_is_judged_by_its_validation_figures() -> None:
    standing = {name: value for name, value in BLIND.items() if name != "key"}
    order = {name: value for name, value in ORDER.items() if name != "key"}
    metrics = {"validation_standing": standing, "reordered": order, "optimizer_steps": 5, "from_scratch": True}
    found = stage_doubts("teacher", metrics)
    assert [reason["code"] for reason in found] == ["chance", "permuted", "untrained"]
    assert "On 20 validation samples the teacher has 35.00 %" in found[0]["text"]
    assert stage_doubts("prune", metrics) == []
    assert stage_doubts("teacher", {"validation_standing": None, "reordered": None}) == []
    assert stage_doubts("distill", {}) == []  # of an earlier version


def test_pages_show_reasons_first_and_in_colour() -> None:
    doubtful = sample.report(evidence={**sample.EVIDENCE, "trainings": scratch(7)})
    page, text = html_report(doubtful), markdown_report(doubtful)
    assert '<div class="verdict doubtful">Doubtful (untrained): verified, within budget on all 4 lines.</div>' in page
    assert '<div class="reasons doubtful"><ul><li>The student was trained from random weights in 7' in page
    assert page.index("7 optimizer steps") < page.index('class="tiles"')
    head = (
        "\N{LARGE YELLOW CIRCLE} **Doubtful (untrained): verified, within budget on all 4 lines.**\n\n- The student was"
    )
    assert head in text
    assert text.index("7 optimizer steps") < text.index("Flatbuffer: 53.2 KiB")
    good = sample.report()
    assert '<div class="verdict good">Good: verified' in html_report(good)
    assert 'class="reasons' not in html_report(good)
    assert markdown_report(good).splitlines()[2].startswith("\N{LARGE GREEN CIRCLE} **Good: verified")


def test_comparisons_show_verdicts_and_compare_the_same_samples() -> None:
    other = {**sample.EVIDENCE, "answers": "0f", "trainings": scratch(7)}
    runs = [("a", sample.report()), ("b", sample.report(evidence=other))]
    found = compare(runs)
    assert [row["verdict"] for row in found.rows] == ["good", "doubtful"]
    shown = dict(zip(found.table.headers, found.table.rows[1], strict=True))
    assert (shown["Verdict"], shown["Against first"]) == ("doubtful (untrained)", "equal (4 won, 4 lost, p = 1)")
    assert found.rows[1]["paired"]["p"] == 1.0
    foreign = sample.report(evidence={**other, "samples_digest": "cd" * 16})
    assert compare([runs[0], ("b", foreign)]).rows[1]["paired"] is None
    older = {key: value for key, value in runs[1][1].items() if key not in ("evidence", "verdict")}
    assert compare([runs[0], ("b", older)]).rows[1]["verdict"] == "good"


def test_documents_of_earlier_versions_are_judged_by_what_they_hold() -> None:
    assert assess({}) == {"status": "good", "reasons": []}
    assert assess({"verification": {"passed": False}})["status"] == "failed"
    assert assess({"budget": {"passed": False, "lines": []}})["status"] == "failed"


def test_words() -> None:
    assert interval_text(94.34, 100.0) == "94.3 to 100 %"
    assert interval_text(0.0, 5.66) == "0 to 5.7 %"
    assert interval_text(92.301, 92.349) == "92.30 to 92.35 %"
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
