"""Recipes from strangers: whatever a file holds, it ends as a recipe or as a clear error, at once, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecompress_cli.main import invoke
from tests.shared.recipe_mutations import hostile, mutated

pytestmark = pytest.mark.slow
#: Nothing may hang or take time that grows with what is nested; the second that a command may take is measured by
#: benchmarks/robustness/recipe_fuzz.py, not here, where coverage counts lines beside it.
MOST_CPU_S = 5.0
MOST_KIB = 200 * 1024
MUTATED = 400
#: Validates and tells exit code and peak memory; what a parent is told of a child holds its own memory from the fork.
PEAK = """
import re, sys
from edgecompress_cli.main import invoke
code = invoke(["validate", "--json", *sys.argv[1:]])
print(code, re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


@pytest.mark.parametrize("name", sorted(hostile()))
def test_a_hostile_file_is_one_clear_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.yaml"
    path.write_bytes(hostile()[name])
    began = time.process_time()
    assert invoke(["validate", str(path)]) == 2
    assert time.process_time() - began < MOST_CPU_S
    said = capsys.readouterr()
    assert "hostile.yaml" in said.err + said.out
    assert "Traceback" not in said.err
    assert len(said.err + said.out) < 20_000
    assert list(tmp_path.iterdir()) == [path]  # nothing ran


def test_all_of_them_take_little_memory(tmp_path: Path) -> None:
    for number, content in enumerate(hostile().values()):
        (tmp_path / f"{number}.yaml").write_bytes(content)
    files = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *files], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
    )
    code, kib = done.stderr.split()[-2:]
    assert code == "2"
    assert [row["ok"] for row in json.loads(done.stdout)["recipes"]] == [False] * len(files)
    assert int(kib) < MOST_KIB


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
