"""`edgecompress recipes`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecompress.recipe.reading.load import load_recipe
from edgecompress_cli.main import invoke

ROOT = Path(__file__).parents[3]
STEMS = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
DIGITS = (ROOT / "recipes" / "digits.yaml").read_bytes()
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("arguments", [["recipes"], ["recipes", "list"]])
def test_lists_every_recipe_and_the_other_files(arguments: list[str], capsys: Capture) -> None:
    assert invoke(arguments) == 0
    out, err = capsys.readouterr()
    table, others = out.split("\n\n")
    head, *rows = table.splitlines()
    assert head.split() == ["recipe", "what", "it", "shows", "data"]
    assert [row.split()[0] for row in rows] == STEMS
    assert "The demo: every stage" in rows[STEMS.index("digits")]
    assert rows[STEMS.index("digits")].endswith("that scikit-learn ships; nothing to bring")
    assert rows[STEMS.index("fashion-mnist-qat")].endswith("(`make data`), or --set data.download=true")
    assert [row.split()[0] for row in others.splitlines()] == ["other", "edgecompress.mk", "recipe.schema.json"]
    assert err == "Copy one: edgecompress recipes copy NAME\n"


def test_list_as_json(capsys: Capture) -> None:
    assert invoke(["recipes", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert [row["name"] for row in document["recipes"]] == STEMS
    assert [row["name"] for row in document["others"]] == ["edgecompress.mk", "recipe.schema.json"]
    assert all(row["about"] for row in [*document["recipes"], *document["others"]])
    assert all(row["data"] for row in document["recipes"])


@pytest.mark.parametrize("name", ["digits", "digits.yaml"])
def test_copies_a_recipe_that_runs_from_there(name: str, capsys: Capture) -> None:
    assert invoke(["recipes", "copy", name]) == 0
    out, err = capsys.readouterr()
    assert out == "digits.yaml: copied\n"
    assert err.splitlines() == [
        "Data: 1,797 pictures of digits that scikit-learn ships; nothing to bring.",
        "Run it: edgecompress run digits.yaml",
    ]
    assert Path("digits.yaml").read_bytes() == DIGITS
    assert load_recipe("digits.yaml").name == "digits"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("edgecompress.mk", ROOT / "edgecompress.mk"),
        ("recipe.schema.json", ROOT / "compress" / "edgecompress" / "recipe" / "recipe.schema.json"),
    ],
)
def test_copies_the_other_files(name: str, source: Path, capsys: Capture) -> None:
    assert invoke(["recipes", "copy", name]) == 0
    assert capsys.readouterr() == (f"{name}: copied\n", "")
    assert Path(name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("to", "target"),
    [("there", "there/digits.yaml"), ("new/folder/", "new/folder/digits.yaml"), ("my net.yaml", "my net.yaml")],
)
def test_the_copy_goes_where_it_is_told_to(to: str, target: str, capsys: Capture) -> None:
    Path("there").mkdir()
    assert invoke(["recipes", "copy", "digits", "--to", to, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert (document["name"], document["file"]) == ("digits", target)
    assert document["data"].endswith("nothing to bring")
    assert Path(target).read_bytes() == DIGITS


def test_the_command_that_is_shown_can_be_pasted(capsys: Capture) -> None:
    assert invoke(["recipes", "copy", "digits", "--to", "my net.yaml"]) == 0
    assert capsys.readouterr().err.endswith("Run it: edgecompress run 'my net.yaml'\n")


def test_a_file_that_is_there_is_only_overwritten_by_force(capsys: Capture) -> None:
    Path("digits.yaml").write_text("mine")
    Path("link.yaml").symlink_to("gone.yaml")
    assert invoke(["recipes", "copy", "digits"]) == 4
    assert capsys.readouterr().err == (
        "error: digits.yaml is there already. Overwrite it with --force, or name another file with --to.\n"
    )
    assert Path("digits.yaml").read_text() == "mine"
    assert invoke(["recipes", "copy", "digits", "--to", "link.yaml"]) == 4
    assert invoke(["recipes", "copy", "digits", "--force"]) == 0
    assert Path("digits.yaml").read_bytes() == DIGITS


def test_a_folder_in_the_way_is_told(capsys: Capture) -> None:
    Path("digits.yaml").mkdir()
    assert invoke(["recipes", "copy", "digits", "--force"]) == 4
    assert "cannot write digits.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["copy", "digit"], "no recipe is called `digit`; did you mean `digits`?"),
        (["copy", "Fashion-mnist-QAT.yaml"], "did you mean `fashion-mnist-qat.yaml`?"),
        (["copy", "../../etc/passwd"], "no recipe is called `../../etc/passwd`; known: digits, digits-ptq, "),
        (["copy"], "copy which recipe? For example: edgecompress recipes copy digits"),
        (["digits"], "`digits` is neither list nor copy. To copy a recipe: edgecompress recipes copy NAME"),
        (["list", "digits"], "`digits` is for copying: edgecompress recipes copy NAME"),
        (["list", "--to", "x"], "--to is for copying: edgecompress recipes copy NAME"),
        (["--force"], "--force is for copying: edgecompress recipes copy NAME"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: Capture) -> None:
    assert invoke(["recipes", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(Path().iterdir()) == []
