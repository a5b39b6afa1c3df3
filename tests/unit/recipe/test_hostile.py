"""Recipes from strangers: whatever a file holds, it ends as a recipe or as a clear error, at once, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecompress_cli.main import invoke
from tests.shared.processes import HUNG_S, unmeasured
from tests.shared.recipe_mutations import hostile, mutated

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow
#: Nothing may hang or take time that grows with what is nested; the second that a command may take is measured by
#: benchmarks/robustness/recipe_fuzz.py, not here, where coverage counts lines beside it.
MOST_CPU_S = 5.0
MOST_KIB = 200 * 1024
MUTATED = 400
#: Validates the file in each folder and tells what became of it, then its peak memory, which the tests' own process
#: could not tell: one holds all that it has imported, and a forked one that of its parent.
PROGRAM = """
import contextlib, io, json, os, re, sys, time
from edgecompress_cli.main import invoke

for folder in sys.argv[1:]:
    os.chdir(folder)
    said, began = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = invoke(["validate", "hostile.yaml"])
    print(json.dumps([code, said.getvalue(), time.process_time() - began, os.listdir()]), flush=True)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@dataclass(frozen=True)
class Verdict:
    """What `validate` made of one file, and what lay beside the file then."""

    code: int
    said: str
    cpu_s: float
    files: list[str]


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Verdict], int]:
    """All hostile files, validated by one process one after the other; its peak memory in KiB."""
    folders = [tmp_path_factory.mktemp("hostile") for _ in hostile()]
    for folder, content in zip(folders, hostile().values(), strict=True):
        (folder / "hostile.yaml").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, folders)],
        capture_output=True, text=True, check=False, timeout=HUNG_S, cwd=ROOT, env=unmeasured(os.environ),
    )  # fmt: skip
    *lines, kib = done.stdout.splitlines() or [""]
    assert done.returncode == 0, (dict(zip(hostile(), lines, strict=False)), done.stderr)
    return {name: Verdict(*json.loads(line)) for name, line in zip(hostile(), lines, strict=True)}, int(kib)


@pytest.mark.parametrize("name", sorted(hostile()))
def test_a_hostile_file_is_one_clear_error(name: str, validated: tuple[dict[str, Verdict], int]) -> None:
    verdict = validated[0][name]
    assert verdict.code == 2
    assert verdict.cpu_s < MOST_CPU_S
    assert "hostile.yaml" in verdict.said
    assert "Traceback" not in verdict.said
    assert len(verdict.said) < 20_000
    assert verdict.files == ["hostile.yaml"]  # nothing ran


def test_all_of_them_take_little_memory(validated: tuple[dict[str, Verdict], int]) -> None:
    assert validated[1] < MOST_KIB


def test_mutated_recipes_are_right_or_wrong_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mutated.yaml"
    codes = []
    for seed in range(MUTATED):
        path.write_bytes(mutated(seed))
        began = time.process_time()
        codes.append(invoke(["validate", str(path)]))
        said = capsys.readouterr()
        assert codes[-1] in (0, 2), (seed, said.err)
        assert time.process_time() - began < MOST_CPU_S, seed
        assert codes[-1] == 0 or "mutated.yaml" in said.err + said.out, seed
    assert 0.02 < codes.count(0) / MUTATED < 0.5
    assert sorted(tmp_path.iterdir()) == [path]  # nothing ran, nothing was written
