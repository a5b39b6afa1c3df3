"""`edgecompress analyze`: what it shows with the analysis itself standing in, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgecompress.context import Event
from edgecompress.report.words.analysis import conclusion
from edgecompress_cli.main import invoke
from tests.cli.conftest import Terminal
from tests.unit.report import sample

Capture = pytest.CaptureFixture[str]
FOUND = {**sample.ANALYSIS, "conclusion": conclusion(sample.ANALYSIS, {"mode": "qat"})}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the analysis was asked for; it gives the sample."""
    holder: dict[str, Any] = {}

    def analyse(folder: Path, store: Any, *, samples: int | None, trust: bool, listeners: Any) -> dict[str, Any]:
        holder.update(folder=folder, store=store.root, samples=samples, trust=trust)
        for listener in listeners:
            listener(Event("warning", "analyze", {"message": "look"}))
        return FOUND

    monkeypatch.delenv("EDGECOMPRESS_STORE", raising=False)
    monkeypatch.delenv("EDGECOMPRESS_TRUST", raising=False)
    monkeypatch.setattr("edgecompress.pipeline.recheck_layers.analyse_layers", analyse)
    return holder


def test_layers_are_shown_as_they_are_ranked(asked: dict[str, Any], capsys: Capture) -> None:
    assert invoke(["analyze", "runs/x", "--top", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == "Analyze: warning: look\n"
    assert asked == {"folder": Path("runs/x"), "store": Path("runs/.store"), "samples": None, "trust": False}
    lines = out.splitlines()
    assert lines[0].startswith("256 validation samples score 91.41 % quantized and 93.36 % in float;")
    assert lines[2].split() == [
        "Layer", "Operator", "Points", "dB", "SNR", "Own", "SNR", "Cosine", "Clipped", "Range", "Weights", "MACs",
    ]  # fmt: skip
    assert lines[3].startswith("stack1.conv1  CONV_2D    +1.56  +6.02  32.4     21.3  0.9998   0.02 %   62 %  1,013:1")
    assert lines[4].startswith("stem ")
    assert lines[5] == "9 more (--top 11 shows all)"
    assert max(map(len, lines[2:6])) <= 100
    assert lines[-1] == FOUND["conclusion"]


def test_all_layers_may_be_shown(asked: dict[str, Any], capsys: Capture) -> None:
    assert invoke(["analyze", "runs/x", "--top", "11", "--samples", "64", "--trust"]) == 0
    out = capsys.readouterr().out
    assert "more (--top" not in out
    assert "pool.pad" in out
    assert (asked["samples"], asked["trust"]) == (64, True)


def test_json_is_one_document_with_every_layer(asked: dict[str, Any], capsys: Capture) -> None:
    assert invoke(["analyze", "runs/x", "--top", "1", "--json"]) == 0
    assert asked
    document = json.loads(capsys.readouterr().out)
    assert document == {"ok": True, "folder": "runs/x", **FOUND}
    assert len(document["layers"]) == 11


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_nothing_is_wider_than_the_terminal(
    asked: dict[str, Any], open_terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    terminal = open_terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    assert invoke(["analyze", "runs/x"]) == 0
    assert asked
    lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= columns
    assert sum("stack1.conv1" in line for line in lines) >= 2  # in the table, unbroken, and in the sentence


@pytest.mark.parametrize("option", [["--top", "0"], ["--samples", "0"], ["--samples", "many"], []])
def test_usage(option: list[str], capsys: Capture) -> None:
    assert invoke(["analyze", *(["x", *option] if option else [])]) == 2
    assert "analyze --help" in capsys.readouterr().err


def finished(folder: Path, recipe: dict[str, Any], **lock: Any) -> None:
    """Writes what analyze reads of a run's folder beside its report."""
    document = {
        "recipe": recipe,
        "base_dir": ".",
        "model_sha256": "ab" * 32,
        "steps": {},
        "data_sha256": "ab" * 32,
        **lock,
    }
    (folder / "recipe.lock.yaml").write_text(yaml.safe_dump(document))


def refusal(capsys: Capture, *options: str) -> str:
    """Returns why a run is refused, on one line."""
    assert invoke(["analyze", "run", *options]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_folder_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys).startswith("error: run holds no finished run: report.json is missing.")


def test_run_without_quantization(write_run: Callable[..., Path], capsys: Capture) -> None:
    finished(write_run(), {"version": 1, "name": "x", "student": {"model": "resnet8"}})
    assert refusal(capsys) == (
        "error: run: nothing was quantized, so no layer loses anything. Add `quantize: {mode: ptq}` to the recipe and "
        "run it."
    )


@pytest.mark.parametrize("steps", [{}, {"distill": "cd" * 32, "quantize": "ef" * 32}])
@pytest.mark.slow
def test_run_whose_stages_are_gone(
    write_run: Callable[..., Path],
    capsys: Capture,
    steps: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("EDGECOMPRESS_STORE", str(tmp_path / "elsewhere"))
    finished(write_run(), {"version": 1, "name": "x", "student": {"model": "resnet8"}, "quantize": {}}, steps=steps)
    why = "not made yet" if steps else "the lock file does not name it"
    assert refusal(capsys) == (
        f"error: run: what stage quantize made is not in the store {tmp_path}/elsewhere ({why}). Run the recipe again "
        "with `edgecompress run`: what is finished is reused; or name the run's store in EDGECOMPRESS_STORE."
    )
