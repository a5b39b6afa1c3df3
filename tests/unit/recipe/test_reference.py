"""The reference page and the JSON Schema say what the program does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecompress.recipe.fields import blocks, default_of, field_at, keys_of, places_of, type_words
from edgecompress.recipe.reference import json_schema, reference_markdown
from edgecompress.recipe.schema import MODELS, SOURCES, Recipe
from edgecompress.recipe.shipped import SCHEMA
from edgecompress_cli.main import invoke

PAGE = Path(__file__).parents[3] / "docs" / "recipe.md"


def test_page_is_up_to_date() -> None:
    assert reference_markdown() == PAGE.read_text(encoding="utf-8"), (
        "run: edgecompress schema --markdown > docs/recipe.md"
    )


def test_page_describes_every_key() -> None:
    text = reference_markdown()
    for block in blocks().values():
        for key, field in keys_of(block).items():
            assert f"| `{key}` |" in text
            assert field.description
            assert field.description.split(".")[0].replace("|", "\\|") in text
    assert "base_dir" not in text


def test_tables_of_the_page_are_well_formed() -> None:
    rows = [line for line in reference_markdown().splitlines() if line.startswith("|")]
    assert len(rows) > 60
    assert {row.replace("\\|", "").count("|") for row in rows} == {5, 9}


def test_defaults_on_the_page_are_those_a_recipe_gets() -> None:
    recipe = Recipe.model_validate(
        {"version": 1, "teacher": {"model": "resnet9"}, "student": {"model": "resnet8"}, "distill": {},
         "prune": {"target": {"macs": 1}}, "quantize": {}, "train": {}}
    )  # fmt: skip
    checked = 0
    for path, block in blocks().items():
        value: Any = recipe
        for part in filter(None, path.split(".")):
            value = getattr(value, part)
        for key, field in keys_of(block).items():
            if field.is_required() or (f"{path}.{key}" if path else key) in blocks():
                continue
            if (path, key) == ("prune.target", "macs"):  # one of its keys has to be there
                continue
            assert default_of((*filter(None, path.split(".")), key)) == getattr(value, key), (path, key)
            checked += 1
    assert checked > 70


def test_default_of_an_unknown_key_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"data\.nonsense"):
        default_of(("data", "nonsense"))


def test_schema_is_plain_json_with_resolvable_references() -> None:
    schema = json_schema()
    text = json.dumps(schema, allow_nan=False)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    references = set(text.split('"$ref": "')[1:])
    assert len(references) > 5
    for reference in references:
        name = reference.split('"')[0].removeprefix("#/$defs/")
        assert name in schema["$defs"]


def test_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json_schema()
    assert all(block["additionalProperties"] is False for block in [schema, *schema["$defs"].values()])


def test_schema_has_every_key_with_its_default() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    assert list(schema["properties"]) == list(keys_of(Recipe))
    for path, block in blocks().items():
        if not path:
            continue
        parent = blocks().get(path.rpartition(".")[0])
        name = f"{parent.__name__}Train" if path.endswith(".train") and parent else block.__name__
        properties = definitions[name]["properties"]
        assert list(properties) == list(keys_of(block))
        for key, field in keys_of(block).items():
            if field.is_required():
                assert key in definitions[name]["required"]
            elif f"{path}.{key}" not in blocks():
                default = default_of((*path.split("."), key))
                assert properties[key]["default"] == (
                    pytest.approx(default) if type(default) is float else json_like(default)
                )


def json_like(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_schema_completes_names_and_lets_prefixed_ones_pass() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["DataSpec"]["properties"]["source"]["anyOf"][0] == {"enum": list(SOURCES)}
    model = definitions["ModelSpec"]["properties"]["model"]["anyOf"]
    assert model[0] == {"enum": list(MODELS)}
    assert {"pattern": "^torchvision/.+"} in model


def test_places_and_words_of_keys() -> None:
    assert places_of("temperature") == ["distill.temperature"]
    assert len(places_of("epochs")) == 6
    words = {
        ("seed",): "a whole number from 0 to below 4,294,967,296",
        ("budget", "size_kib"): "a number above 0",
        ("data", "train_samples"): "a whole number of at least 1",
        ("distill", "temperature"): "a number from 0.1 to 100",
        ("data", "image_size"): "a whole number or a list of 2 whole numbers",
        ("data", "augment", 1): "a list of `crop`, `flip`, `shift`, `cutout`, `scale`, `rotate` or `mirror`",
        ("data", "download"): "`true` or `false`",
    }
    for path, expected in words.items():
        field = field_at(path)
        assert field is not None
        assert type_words(field) == expected
    assert field_at(("data", "nonsense")) is None
    assert field_at(()) is None


def test_the_committed_schema_is_what_the_command_prints(
    golden: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["schema"]) == 0
    golden(SCHEMA, capsys.readouterr().out)
