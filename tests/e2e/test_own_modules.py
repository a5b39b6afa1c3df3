"""A folder with modules of the user's own called `compress` and `cli`: neither side gets the other's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.shared.processes import HUNG_S, unmeasured

ROOT = Path(__file__).parents[2]
NET = """
from torch import nn

from compress import flat


class MyNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(144, num_classes)

    def forward(self, x):
        return self.head(flat(x))
"""


@pytest.fixture
def own_modules(kitchen: Path) -> Path:
    """The kitchen with a net that uses one of them, and with one that nobody may import."""
    (kitchen / "compress.py").write_text("def flat(x):\n    return x.flatten(1)\n")
    (kitchen / "cli.py").write_text("raise RuntimeError('nobody asked for cli.py')\n")
    (kitchen / "cli").mkdir()
    (kitchen / "cli" / "__init__.py").write_text("raise RuntimeError('nobody asked for cli')\n")
    (kitchen / "my_net.py").write_text(NET)
    recipe = {
        "version": 1,
        "threads": 1,
        "data": {"source": "npz", "path": "stripes.npz"},
        "student": {"model": "python:my_net:MyNet", "train": {"epochs": 1, "batch_size": 32}},
    }
    (kitchen / "r.yaml").write_text(yaml.safe_dump(recipe))
    return kitchen


@pytest.mark.parametrize("folder_first", [True, False], ids=["folder-first", "folder-last"])
def test_validate_plan_and_run(own_modules: Path, folder_first: bool) -> None:
    ours = [str(ROOT / "compress"), str(ROOT / "cli")]
    outside = {name: value for name, value in unmeasured(os.environ).items() if not name.startswith("EDGECOMPRESS_")}
    path = os.pathsep.join([".", *ours] if folder_first else [*ours, "."])
    environment = {**outside, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}

    def answer(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "edgecompress", *arguments],
            cwd=own_modules, env=environment, capture_output=True, text=True, check=True, timeout=HUNG_S,
        ).stdout  # fmt: skip

    assert answer("validate", "r.yaml") == "r.yaml: OK\n"
    steps = json.loads(answer("plan", "r.yaml", "--trust", "--json"))["steps"]
    assert steps[0]["stage"] == "distill"
    if not folder_first:  # what comes first is what would be in the way
        return
    done = json.loads(answer("run", "r.yaml", "--trust", "--until", "distill", "--json"))
    assert (done["ok"], done["report"]["stopped_after"]) == (True, "distill")
