"""The README's Python, run as it stands there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_program_from_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGECOMPRESS_STORE", raising=False)
    section = re.search(r"^## From Python\n\n((?:    .*\n|\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert section is not None
    exec(textwrap.dedent(section[1]), {})  # noqa: S102 - our own text
    size = (tmp_path / "runs" / "small" / "model.tflite").stat().st_size
    assert capsys.readouterr().out.splitlines()[-1] == f"runs/small/model.tflite {size}"
