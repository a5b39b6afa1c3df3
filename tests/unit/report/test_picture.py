"""report.png: a real picture, the same for the same report, whatever figures are missing."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecompress.report.document import write_report
from edgecompress.report.picture import COLOURS, picture
from tests.unit.report import sample

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return sample.report()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def has_colour(image: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return bool((np.abs(image.astype(int) - wanted).max(axis=2) <= 2).sum() > 20)


def test_every_model_is_drawn_in_its_colour(report: dict[str, Any]) -> None:
    image = pixels(picture(report))
    assert image.shape == (418, 1210, 3)
    for colour in COLOURS.values():
        assert has_colour(image[:, :605], colour)
        assert has_colour(image[:, 605:], colour)


def test_same_report_same_bytes(report: dict[str, Any]) -> None:
    assert picture(report) == picture(copy.deepcopy(report))


def test_missing_figures_leave_a_model_out(report: dict[str, Any]) -> None:
    bare = copy.deepcopy(report)
    bare["models"][0] |= {"accuracy": None, "latency": {}}
    image = pixels(picture(bare))
    assert not has_colour(image[:, :605], COLOURS["teacher"])
    for row in bare["models"]:
        row |= {"accuracy": None, "latency": {}}
    assert pixels(picture(bare)).shape == image.shape


def test_text_from_outside_is_no_formula(report: dict[str, Any]) -> None:
    odd = copy.deepcopy(report)
    odd["models"][0]["label"] = "Teacher $\\frac{"
    assert pixels(picture(odd)).any()


def test_markdown_shows_the_picture_beside_it(report: dict[str, Any], tmp_path: Any) -> None:
    write_report(tmp_path, report)
    assert "](report.png)" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.png").read_bytes() == picture(report)
