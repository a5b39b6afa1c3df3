"""`edgecompress schema`."""

from __future__ import annotations

import json

import pytest

from edgecompress.recipe.reference import json_schema, reference_markdown
from edgecompress_cli.main import invoke


@pytest.mark.parametrize("arguments", [["schema"], ["schema", "--json"]])
def test_prints_the_schema(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(arguments) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(json_schema()))


def test_prints_the_reference_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["schema", "--markdown"]) == 0
    assert capsys.readouterr().out == reference_markdown()
