"""What the layer analysis says in the reports: its table, what it concludes, where it is left out."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.report.html.page import html_report
from edgecompress.report.markdown import markdown_report
from edgecompress.report.words.analysis import COLUMNS, analysis_sentence, analysis_table, conclusion
from tests.unit.report import sample

PTQ = {"mode": "ptq", "weights": "int8", "activations": "int8", "max_drop_points": None, "escalate": None, "allow": []}


def concluded(quantize: dict[str, Any] | None = None, /, **worst: Any) -> str:
    """Returns the conclusion on the sample with its worst layer changed."""
    first, *others = sample.ANALYSIS["layers"]
    return conclusion({**sample.ANALYSIS, "layers": [{**first, **worst}, *others]}, quantize or PTQ)


def test_a_layer_with_channels_far_apart_is_to_be_equalised() -> None:
    found = concluded()
    assert found.startswith("stack1.conv1 (CONV_2D) costs most: kept in float, it gains +1.56 points and +6.02 dB")
    assert "The weights of its channels lie 1,013:1 apart" in found
    assert "equalisation evens them out" in found
    assert "`quantize.max_drop_points` (0.5, say) makes PTQ try" in found


def test_clipped_values_and_unused_steps_are_named() -> None:
    clipped = concluded(weight_ratio=2.0, saturation=0.031)
    assert "3.10 % of its values are clipped: its range is too narrow. Calibrate on more samples" in clipped
    assert "Calibrate" not in concluded({**PTQ, "mode": "qat"}, weight_ratio=2.0, saturation=0.031)
    assert "apart" not in clipped
    unused = concluded(weight_ratio=None, range_use=0.04)
    assert "Its values use 4 % of its steps: outliers have widened its range. A range estimator" in unused
    both = concluded(saturation=0.031)
    assert "apart" in both
    assert "clipped" in both
    fixed = concluded(weight_ratio=None, saturation=0.031, op="SOFTMAX")
    assert "clipped" not in fixed
    assert "None of its figures says why" in fixed


def test_the_remedy_is_one_that_the_recipe_does_not_have() -> None:
    assert "`quantize.train.epochs`" in concluded({**PTQ, "mode": "qat"})
    assert "`quantize.weights: int8`" in concluded({**PTQ, "weights": "int4"})
    assert "`quantize.mode: qat`" in concluded({**PTQ, "activations": "dynamic"})
    climbing = {**PTQ, "max_drop_points": 0.5}
    found = concluded(climbing)
    assert "A smaller `quantize.max_drop_points`" in found
    assert "`quantize.allow: [int16]`" in found
    assert "`quantize.escalate: qat`" in found
    assert "`quantize.allow: [float32]`" in concluded({**climbing, "activations": "int16"})
    worst = {**sample.ANALYSIS["layers"][0], "op": "HARD_SWISH"}
    other = {**sample.ANALYSIS, "layers": [worst, *sample.ANALYSIS["layers"][1:]]}
    assert "`quantize.allow: [float32]`" in conclusion(other, climbing)
    norm = {**sample.ANALYSIS, "layers": [{**worst, "op": "SQUARED_DIFFERENCE"}, *sample.ANALYSIS["layers"][1:]]}
    assert "`quantize.norms: float32`" in conclusion(norm, PTQ)
    everything = concluded({**climbing, "allow": ["int16"], "escalate": "qat"})
    assert everything.endswith("A smaller `quantize.max_drop_points` lets PTQ repair more.")


def test_where_nothing_stands_out_nothing_is_blamed() -> None:
    spread = concluded(gained_points=0.5, gained_db=1.2)
    assert spread.startswith("No layer stands out: keeping stack1.conv1 (CONV_2D) in float, which brings most,")
    assert "The loss is spread over many layers." in spread
    assert "apart" not in spread
    rounded = sample.ANALYSIS["noise_points"] * (1 + 1e-12)
    assert concluded(gained_points=rounded, gained_db=1.2).startswith("No layer stands out")
    sound = conclusion({**sample.ANALYSIS, "score": 93.0, "layers": sample.ANALYSIS["layers"][1:]}, PTQ)
    assert "No layer stands out" in sound
    assert sound.endswith(
        "No accuracy is lost that these samples can tell (93.00 % against 93.36 %): nothing needs a repair."
    )
    assert conclusion({**sample.ANALYSIS, "layers": sample.ANALYSIS["layers"][-1:]}, PTQ) == (
        "No operator quantizes anything."
    )


def test_most_of_the_error_without_loss_is_said_and_left_alone() -> None:
    first = {**sample.ANALYSIS["layers"][0], "gained_points": 0.0}
    found = conclusion({**sample.ANALYSIS, "score": 93.36, "layers": [first]}, PTQ)
    assert found.startswith("stack1.conv1 (CONV_2D) makes most of the error: kept in float, it gains no accuracy and")
    assert "1,013:1 apart" in found
    assert found.endswith("(93.36 % against 93.36 %): nothing needs a repair.")


def test_where_the_signal_is_lost_is_said_even_if_no_single_layer_brings_it_back() -> None:
    ratios = (28.0, 21.0, 2.4, 0.3, 150.0, 0.0)
    layers = [sample.analysed(index, 0.0, 0.0, snr_db=ratio, weight_ratio=None) for index, ratio in enumerate(ratios)]
    dead = {**sample.ANALYSIS, "score": 12.5, "float_score": 12.5, "layers": layers[::-1]}
    found = conclusion(dead, PTQ)
    assert (
        "The signal is lost at stack1.conv2 (CONV_2D): its output's ratio to the error is 2.4 dB, and 0.0 dB" in found
    )
    assert "nothing needs a repair" not in found
    assert "`quantize.max_drop_points`" in found
    assert "lost at" not in conclusion({**dead, "layers": [*layers[:-1], {**layers[-1], "snr_db": 12.0}]}, PTQ)


def test_what_was_judged_by_what() -> None:
    assert analysis_sentence(sample.ANALYSIS) == (
        "256 validation samples score 91.41 % quantized and 93.36 % in float; differences of up to 0.78 points tell "
        "nothing. 10 of 11 operators were kept in float in turn."
    )
    agreeing = {**sample.ANALYSIS, "split": "calibration", "score": 98.4, "float_score": 100.0}
    alone = {**sample.ANALYSIS, "samples": 1, "layers": sample.ANALYSIS["layers"][:1]}
    assert analysis_sentence(alone).startswith("1 validation sample scores ")
    assert analysis_sentence(alone).endswith("1 of 1 operator was kept in float in turn.")
    assert analysis_sentence(agreeing).startswith(
        "256 calibration samples have the float model's answer in 98.40 % of the cases; "
    )


def test_the_table_says_what_each_figure_is() -> None:
    found = analysis_table(sample.ANALYSIS["layers"])
    assert found.headers == tuple(header for header, _, _ in COLUMNS)
    assert found.rows[0] == (
        "stack1.conv1", "CONV_2D", "+1.56", "+6.02", "32.4", "21.3", "0.9998", "0.02 %", "62 %", "1,013:1", "461 k",
    )  # fmt: skip
    assert found.rows[-1] == ("pool.pad", "PAD", "-", "-", "25.4", "exact", "0.9998", "-", "-", "-", "-")
    layer = {**sample.ANALYSIS["layers"][0], "saturation": 0.0, "cosine": 0.99999}
    assert analysis_table([layer]).rows[0][6:8] == ("0.9999", "0")
    assert analysis_table([{**layer, "saturation": 1e-6, "cosine": 1.0}]).rows[0][6:8] == ("1.0000", "<0.01 %")


@pytest.mark.parametrize("room", [100, 80, 60, 40])
def test_columns_go_and_names_are_cut_where_there_is_no_room(room: int) -> None:
    names = [f"backbone.features.{index}.block.project.conv" for index in range(3)]
    layers = [{**entry, "layer": name} for entry, name in zip(sample.ANALYSIS["layers"], names, strict=False)]
    found = analysis_table(layers, room)
    taken = sum(max(map(len, cells)) for cells in zip(found.headers, *found.rows, strict=True))
    least = 16 + 2 + 8 + 2 + 6 + 2 + 5  # the shortest names, operator, points, dB
    assert taken + 2 * (len(found.headers) - 1) <= max(room, least)
    assert found.headers[:4] == ("Layer", "Operator", "Points", "dB")
    assert all(row[0].startswith("...") and names[place].endswith(row[0][3:]) for place, row in enumerate(found.rows))
    assert analysis_table(layers, 200).rows[0][0] == names[0]


def test_reports_show_the_worst_layers_and_a_list_of_all() -> None:
    report = sample.report()
    assert report["analysis"]["conclusion"] == conclusion(sample.ANALYSIS, report["recipe"]["quantize"])
    page = html_report(report)
    assert "<h2>What quantization costs, layer by layer</h2>" in page
    assert "All 11 operators, ranked" in page
    assert page.count("pool.pad") == 1  # the eleventh is in the list only
    text = markdown_report(report)
    assert "## What quantization costs, layer by layer" in text
    assert "| stack1.conv1 | CONV\\_2D | +1.56 |" in text
    assert "pool.pad" not in text


def test_runs_without_an_analysis_have_no_such_section() -> None:
    for report in (sample.report(analysis=None), sample.report(sample.recipe(quantize=None))):
        assert report["analysis"] is None
        assert "layer by layer" not in html_report(report) + markdown_report(report)
    older = sample.report()
    del older["analysis"]  # as an earlier version wrote it
    assert "layer by layer" not in html_report(older) + markdown_report(older)
    few = sample.report(analysis={**sample.ANALYSIS, "layers": sample.ANALYSIS["layers"][:3]})
    assert "operators, ranked" not in html_report(few)
