"""The stamp rule for users' Makefiles: a target that is there only while the run passes its budget."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Stands for edgecompress: writes a flatbuffer whose content is that of `wanted`, and ends with the code in `code`.
STUB = """#!/bin/sh
echo "$@" >> calls
out=
while [ $# -gt 0 ]; do [ "$1" = --output ] && out=$2; shift; done
mkdir -p "$out" && cat wanted > "$out/model.tflite"
exit $(cat code)
"""
MAKEFILE = """EDGECOMPRESS := ./stub
include edgecompress.mk
firmware.bin: model.passed
\tcp runs/model/model.tflite firmware.bin
\techo linked >> links
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "edgecompress.mk", tmp_path)
    for name, text in (
        ("stub", STUB),
        ("Makefile", MAKEFILE),
        ("model.yaml", "version: 1\n"),
        ("wanted", "one"),
        ("code", "0"),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "stub").chmod(0o755)
    return tmp_path


def make(project: Path, *goals: str) -> int:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(["make", *goals], cwd=project, env=environment, capture_output=True, check=False).returncode


def test_target_is_made_once_while_nothing_changes(project: Path) -> None:
    assert make(project) == make(project) == 0
    assert (project / "calls").read_text().splitlines() == ["run model.yaml --output runs/model"] * 2
    assert (project / "links").read_text() == "linked\n"
    (project / "wanted").write_text("two")
    assert make(project) == 0
    assert (project / "firmware.bin").read_text() == "two"
    assert (project / "links").read_text() == "linked\n" * 2


def test_stamps_of_a_pattern_rule_are_kept(project: Path) -> None:
    (project / "Makefile").write_text(
        "EDGECOMPRESS := ./stub\nall: model.bin\ninclude edgecompress.mk\n"
        "%.bin: %.passed\n\tcp runs/$*/model.tflite $@\n\techo linked >> links\n"
    )
    assert make(project) == make(project) == 0
    assert (project / "model.passed").is_file()
    assert (project / "links").read_text() == "linked\n"


def test_a_missed_budget_does_not_turn_the_next_make_green(project: Path) -> None:
    assert make(project) == 0
    (project / "code").write_text("3")
    (project / "wanted").write_text("worse")
    assert make(project) != 0
    assert not (project / "model.passed").exists()
    assert (project / "runs/model/model.tflite").read_text() == "worse"  # kept, to look at
    assert make(project) != 0
    assert (project / "firmware.bin").read_text() == "one"
    (project / "code").write_text("0")
    assert make(project) == 0
    assert (project / "firmware.bin").read_text() == "worse"


def test_readme_shows_the_rule_and_the_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "include edgecompress.mk" in readme
    assert "make demo" in readme
    assert "make test" in readme
    dry = subprocess.run(
        ["make", "-n", "run", "RECIPE=recipes/digits.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "edgecompress run recipes/digits.yaml" in dry.stdout
    assert (
        subprocess.run(["make", "run", "RECIPE=", "STAMP="], cwd=ROOT, capture_output=True, check=False).returncode == 2
    )
