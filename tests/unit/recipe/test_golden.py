"""The messages for common mistakes, word for word: what a user reads is part of the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgecompress.errors import RecipeError
from edgecompress.recipe.reading.load import load_recipe

FOLDER = Path(__file__).parents[2] / "golden" / "recipe_errors"
MISTAKES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_message_is_the_agreed_one(
    path: Path, golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(RecipeError) as caught:
        load_recipe(Path(path.name))
    golden(path.with_suffix(".txt"), f"{caught.value}\n")


def test_every_golden_file_has_its_recipe() -> None:
    assert len(MISTAKES) >= 30  # the ones that people make most
    assert {path.stem for path in FOLDER.glob("*.txt")} == {path.stem for path in MISTAKES}
