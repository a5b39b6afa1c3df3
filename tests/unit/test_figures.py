"""What is lost of a figure, in which unit, and how figures read."""

from __future__ import annotations

import pytest

from edgecompress.figures import (
    ACCURACY,
    AGREEMENT,
    AUC,
    FIGURES,
    MAE,
    PERPLEXITY,
    R2,
    RECONSTRUCTION,
    Figure,
    figure_text,
    judged,
    lost_text,
    main_figure,
    main_value,
    named,
    told,
)
from edgecompress.recipe.schema import TASKS


def test_every_task_has_figures() -> None:
    assert set(FIGURES) == set(TASKS)
    assert main_figure("audio-classification") == ACCURACY
    assert main_figure("anomaly-detection") == AUC


@pytest.mark.parametrize(
    ("figure", "value", "reference", "lost"),
    [
        (ACCURACY, 92.5, 93.0, 0.5),
        (AUC, 95.0, 93.0, -2.0),
        (MAE, 2.1, 2.0, 5.0),
        (MAE, 1.9, 2.0, -5.0),
        (PERPLEXITY, 4.0, 4.0, 0.0),
        (R2, 0.9, 1.0, 10.0),
        (R2, -0.5, -0.4, 25.0),
    ],
)
def test_losses_are_points_of_percentages_and_percent_of_all_else(
    figure: Figure, value: float, reference: float, lost: float
) -> None:
    assert figure.lost(value, reference) == pytest.approx(lost)
    score, best = figure.score(value, reference), figure.score(reference, reference)
    assert best - score == pytest.approx(lost)
    assert figure.value(score, reference) == pytest.approx(value)


def test_an_accuracy_is_its_own_score() -> None:
    assert ACCURACY.score(92.5, 93.0) == 92.5
    assert MAE.score(2.1, 2.0) == pytest.approx(-5.0)


def test_the_share_that_is_lost_is_in_percent_of_all() -> None:
    assert AUC.lost_share(90.0, 100.0) == pytest.approx(10.0)
    assert MAE.lost_share(1e-3, 0.0) > 1e6  # nothing to compare with: no budget is kept


def test_a_split_without_anomalies_is_judged_by_the_reconstruction() -> None:
    figures = {"validation_reconstruction_error": 0.2, "validation_auc": 90.0, "params": 3}
    assert judged("anomaly-detection", figures, "validation_") == (AUC, 90.0)
    del figures["validation_auc"]
    assert judged("anomaly-detection", figures, "validation_") == (RECONSTRUCTION, 0.2)
    assert judged("regression", figures, "validation_") is None
    assert told(figures, "validation_") == (RECONSTRUCTION, 0.2)
    assert told({"validation_accuracy": 1}, "validation_") == (ACCURACY, 1.0)
    assert told({}) is None


def test_texts() -> None:
    assert [figure_text(MAE, value) for value in (0.012345, 12.345, 12345.6, None)] == [
        "0.01235",
        "12.35",
        "12,346",
        "-",
    ]
    assert figure_text(ACCURACY, 92.614) == "92.61 %"
    assert lost_text(ACCURACY, 0.35) == "-0.35 points"
    assert lost_text(MAE, 2.1) == "+2.10 %"
    assert lost_text(MAE, None) == "-"
    assert named("agreement") == AGREEMENT
    assert named("mae") == MAE


def test_values_are_found_where_a_row_has_them() -> None:
    assert main_value({"accuracy": None, "metrics": {"accuracy": 90.0}}, ACCURACY) is None
    assert main_value({"accuracy": None, "metrics": {"mae": 2.0}}, MAE) == 2.0
    assert main_value({}, MAE) is None
