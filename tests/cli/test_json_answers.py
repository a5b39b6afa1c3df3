"""With --json, stdout is one JSON document whatever is given and whatever goes wrong: bad files, bad words, panics."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edgecompress.errors import ExitCode, ResourceError
from edgecompress.store.files import write_json
from edgecompress_cli import crash, main, render

RECIPE = "version: 1\ndata: {source: npz, path: nothing.npz}\nstudent: {model: resnet8}\n"


class Panic(BaseException):
    """As Rust's libraries raise it: no Exception."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(crash, "_logs", [])
    monkeypatch.setenv("EDGECOMPRESS_STORE", str(tmp_path / "store"))


def bad_inputs(folder: Path) -> list[str]:
    """Writes files and folders that are none of what commands take, and returns their names."""
    files: dict[str, bytes] = {
        "empty": b"",
        "junk": bytes(range(256)) * 4,
        "deep": b"[" * 50_000,
        "wide": b"{a: " * 2000,
        "list.yaml": b"[]\n",
        "latin.yaml": b"version: 1\nname: \xe9\n",
        "recipe.yaml": RECIPE.encode(),
        "cut.tflite": b"\x1c\0\0\0TFL3" + bytes(10),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    reports = {
        "odd": b"\xff",
        "nested": b"[" * 50_000,
        "lists": b"[]",
        "nan": b'{"schema_version": 1, "models": [NaN]}',
    }
    for name, content in reports.items():
        (folder / name).mkdir()
        for file in ("report.json", "recipe.lock.yaml"):
            (folder / name / file).write_bytes(content)
    (folder / "bare").mkdir()
    return [*files, *reports, "bare", "nothing", ".", "/dev/null", "x" * 5000, "\udce9", ""]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main.invoke(arguments)
    out, err = capsys.readouterr()
    assert "Traceback" not in err, err
    return code, json.loads(out)


def assert_refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    code, document = answer(capsys, *arguments, "--json")
    assert code in (ExitCode.RECIPE, ExitCode.RESOURCE), (arguments, document)
    assert document["ok"] is False
    if "recipes" not in document:  # the answer of `validate`, which lists problems by file
        assert document["error"]["exit_code"] == code
        assert document["error"]["message"]


@pytest.mark.parametrize("command", ["report", pytest.param("validate", id="validate")])
def test_files_that_are_none(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in bad_inputs(tmp_path):
        if (command, name) != ("validate", "recipe.yaml"):
            assert_refused(capsys, command, name)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "plan", "analyze", "verify", "inspect", "bench"])
def test_files_that_are_none_for_what_reads_data_and_models(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in bad_inputs(tmp_path):
        assert_refused(capsys, command, name)


@pytest.mark.parametrize("command", [one.__name__ for one in main.COMMANDS])
def test_words_that_no_command_knows(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, command, "--nonsense")
    assert_refused(capsys, command, "a", "b", "c", "--quite-another")


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("nonsense",), ("run",), ("plan",), ("validate",), ("report",), ("analyze",), ("inspect",), ("bench",),
        ("verify",), ("analyze", ".", "--top", "x"), ("analyze", ".", "--top", "0"), ("bench", "a", "--runs", "x"),
        ("recipes", "copy"), ("recipes", "copy", "nothing"), ("recipes", "nonsense"), ("recipes", "list", "--force"),
        ("schema", "--markdown"), ("doctor", "--install", "nothing"), ("validate", "r.yaml", "--set", "x"),
    ],
)  # fmt: skip
def test_command_lines_that_cannot_be_carried_out(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (Panic("index out of bounds"), ExitCode.INTERNAL, "internal"),
        (RecursionError("too deep"), ExitCode.INTERNAL, "internal"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), ExitCode.INTERNAL, "internal"),
        (SystemExit(0), ExitCode.RESOURCE, "resource"),
        (SystemExit("bye"), ExitCode.RESOURCE, "resource"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
    ],
)
def test_whatever_a_command_raises(
    error: BaseException, code: int, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("edgecompress.recipe.reading.load.load_recipe", load)
    found, document = answer(capsys, "validate", "r.yaml", "--json")
    assert (found, document["error"]["kind"], document["error"]["exit_code"]) == (code, kind, code)
    assert main.invoke(["validate", "r.yaml"]) == code
    assert "Traceback" not in capsys.readouterr().err


NAN = {"metrics": [{"loss": 0.5}, {"loss": float("nan")}]}


def test_a_figure_that_json_does_not_have_is_named_in_an_answer_and_null_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"^metrics\.1\.loss is no finite number, so there is no result to write"):
        render.emit_json(NAN)
    write_json(tmp_path / "a.json", NAN)
    assert json.loads((tmp_path / "a.json").read_text()) == {"metrics": [{"loss": 0.5}, {"loss": None}]}


def test_json_behind_two_dashes_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def died(*_: Any) -> None:
        raise KeyboardInterrupt

    def failed(_error: BaseException, *, as_json: bool) -> int:
        seen.append(as_json)
        return 0

    monkeypatch.setattr("edgecompress_cli.supervise.supervise", died)
    monkeypatch.setattr(main, "report_failure", failed)
    main._supervised(["run", "--", "--json"])
    main._supervised(["run", "r.yaml", "--json"])
    assert seen == [False, True]
