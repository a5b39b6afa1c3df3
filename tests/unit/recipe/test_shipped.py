"""The files that come with the program, and what is told of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgecompress.errors import ResourceError
from edgecompress.recipe import shipped
from edgecompress.recipe.reading.load import load_recipe

ROOT = Path(__file__).parents[3]
RECIPES = [file for file in shipped.shared_files() if file.is_recipe]


def test_every_recipe_is_there() -> None:
    assert {file.path for file in RECIPES} == set((ROOT / "recipes").iterdir())
    assert [file.name for file in RECIPES][:2] == ["digits", "digits-ptq"]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_a_recipe_says_what_it_shows_and_what_data_it_needs(file: shipped.SharedFile) -> None:
    assert file.about[0].isupper()
    assert file.about.endswith(".")
    assert 40 < len(file.about) < 120
    assert file.data
    assert len(file.data) < 120
    data = load_recipe(file.path).data
    # Digits are embedded; what a recipe reads from a path can be read from another one.
    assert (data.source == "digits") == ("nothing to bring" in file.data) == ("make data" not in file.data)
    assert (data.source == "fashion-mnist") == ("data.download=true" in file.data)
    assert (data.path is not None) == ("data.path" in file.data)
    assert (data.test_path is not None) == ("data.test_path" in file.data)


def test_a_package_that_carries_them_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "edgecompress"
    (package / "share" / "recipes").mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", package)
    with pytest.raises(ResourceError, match=r"lacks .*share/edgecompress\.mk\. Install it again\."):
        shipped.shared_files()
    shutil.copy(ROOT / "edgecompress.mk", package / "share")
    with pytest.raises(ResourceError, match=r"lacks .*share/recipes\. Install it again\."):
        shipped.shared_files()
    shutil.copy(ROOT / "recipes" / "digits.yaml", package / "share" / "recipes")
    assert [file.path for file in shipped.shared_files()] == [
        package / "share" / "recipes" / "digits.yaml", package / "share" / "edgecompress.mk", shipped.SCHEMA
    ]  # fmt: skip
