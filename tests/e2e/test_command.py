"""The program as a user starts it: their own model and data, a stop in the middle, a second run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgecompress.store.files import sha256_file
from tests.shared.processes import HUNG_S, unmeasured

OWN_NET = '''
"""A plain module: no base class of edgecompress, global pooling by a mean, a functional ReLU."""
import torch
import torch.nn.functional as F
from torch import nn


class OwnNet(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2)
        self.norm = nn.BatchNorm2d(2 * width)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.norm(self.conv2(x))), 2)
        return self.head(x.mean(dim=(2, 3)))
'''
TRAIN = {"epochs": 3, "batch_size": 32, "learning_rate": 0.05}


def command(kitchen: Path, *arguments: str) -> list[str]:
    (kitchen / "own_net.py").write_text(OWN_NET)
    recipe = {
        "version": 1,
        "threads": 1,
        "data": {"source": "npz", "path": "stripes.npz"},
        "student": {"model": "python:own_net:OwnNet", "args": {"width": 8}, "train": TRAIN},
        "prune": {"ratio": 0.3, "steps": 1, "round_to": 2, "train": TRAIN},
        "quantize": {"mode": "qat", "calibration_samples": 32, "train": {**TRAIN, "learning_rate": 0.005}},
        "benchmark": {"runs": 10},
    }
    (kitchen / "own.yaml").write_text(yaml.safe_dump(recipe))
    return [sys.executable, "-m", "edgecompress", "run", "own.yaml", *arguments]


def environment() -> dict[str, str]:
    outside = {name: value for name, value in unmeasured(os.environ).items() if not name.startswith("EDGECOMPRESS_")}
    sources = os.pathsep.join(str(Path(__file__).parents[2] / part) for part in ("compress", "cli"))
    return {**outside, "OMP_NUM_THREADS": "1", "PYTHONPATH": sources}


def start(kitchen: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(kitchen, *arguments), cwd=kitchen, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_own_module_and_npz_work_the_first_time_and_go_on_after_a_stop(kitchen: Path) -> None:
    untrusted = start(kitchen)
    _, err = untrusted.communicate(timeout=HUNG_S)
    assert untrusted.returncode == 2
    assert "own_net.py" in err
    assert "--trust" in err

    stopped = start(kitchen, "--trust")
    assert stopped.stderr is not None
    for line in stopped.stderr:
        if line.startswith("Prune: epoch"):
            break
    assert stopped.poll() is None
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=HUNG_S)
    assert stopped.returncode == 130
    assert "run the same command again" in err
    assert not (kitchen / "runs/own/model.tflite").exists()

    done = start(kitchen, "--trust", "--json")
    out, err = done.communicate(timeout=HUNG_S)
    assert done.returncode == 0, err
    document = json.loads(out)
    assert "Student: finished before, reused" in err
    assert document["ok"] is True
    assert document["report"]["models"][-1]["accuracy"] > 60.0
    assert document["report"]["verification"]["census"]["not_int8"] == []
    files = ("model.tflite", "model.safetensors", "architecture.json")
    assert document["report"]["files"] == {name: sha256_file(kitchen / "runs/own" / name) for name in files}

    again = start(kitchen, "--trust", "--quiet")
    out, err = again.communicate(timeout=HUNG_S)
    assert out == ""
    assert err.startswith("doubtful: The student was trained from random weights in")  # few, and it says no more
    assert err.count("\n") == 1
    assert again.returncode == 0


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("prune.ratio=1.5", 2, "prune.ratio: expected a number above 0 and below 1"),
        ("data.path=gone.npz", 4, "gone.npz"),
        ("student.model=python:own_net:Nothing", 4, "Nothing"),
    ],
)
def test_mistakes_get_one_clear_error(kitchen: Path, override: str, code: int, message: str) -> None:
    wrong = start(kitchen, "--trust", "--set", override)
    out, err = wrong.communicate(timeout=HUNG_S)
    assert wrong.returncode == code
    assert out == ""
    assert message in err
    assert "Traceback" not in err
