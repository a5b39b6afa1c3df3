"""From weights to a report, against conversion and quantization alone: what being sure costs.

    python -m benchmarks.recipes.conversion                       # about ten minutes; finished rows are skipped
    python -m benchmarks.recipes.conversion --models resnet18 --times 5 --source ../other-checkout

Each row times two commands, one after the other: `edgecompress run` of a PTQ recipe with weights that are given, 256
calibration and 500 test pictures of 96x96, from an empty store; and the least program that a user would write with
litert-torch and its quantizer, for the same weights and pictures. Imports are included in both. `*_cpu_s` is the
processor time of all processes, which a busy machine changes less than the clock's. `verify` is that stage's share of
the run's time, from events.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, ROOT, Table

MODELS = ("mobilenet_v2", "resnet18", "mobilenet_v3_small", "efficientnet_b0")
SIDE, CALIBRATION, TEST, CLASSES = 96, 256, 500, 10
COLUMNS = ("run_s", "bare_s", "ratio", "run_cpu_s", "bare_cpu_s", "cpu_ratio", "stages", "verify_share", "load")

RECIPE = """\
version: 1
data: {{source: npz, path: data.npz}}
student: {{model: torchvision/{name}, weights: weights.pt}}
quantize: {{mode: ptq, calibration_samples: {calibration}}}
benchmark: {{runs: 20}}
"""

#: What a user would write who wants a file and nothing else.
BARE = """\
import numpy as np, torch, litert_torch
from edgecompress.sources.torchvision_import import import_torchvision  # builds for other torches import with it too
torchvision = import_torchvision()
from ai_edge_quantizer import quantizer, recipe
net = torchvision.models.{name}(num_classes={classes}).eval()
net.load_state_dict(torch.load("weights.pt"))
x = np.load("data.npz")["x_train"][:{calibration}].astype(np.float32)
x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
litert_torch.convert(litert_torch.to_channel_last_io(net, args=[0]), (torch.from_numpy(x[:1]),)).export("float.tflite")
worker = quantizer.Quantizer("float.tflite", recipe.static_wi8_ai8())
ranges = worker.calibrate({{"serving_default": [{{"args_0": one[None]}} for one in x]}})
worker.quantize(ranges).export_model("bare.tflite", overwrite=True)
"""

PREPARE = """\
import sys, numpy as np, torch
from edgecompress.sources.torchvision_import import import_torchvision
from benchmarks.zoo.entry import Entry
from benchmarks.zoo.prepare import random_samples, run_norms
name, side, classes, train, test = sys.argv[1], *map(int, sys.argv[2:])
import benchmarks.zoo.prepare as prepare
prepare.TRAIN, prepare.TEST = train, test
torch.manual_seed(0)
torchvision = import_torchvision()
samples = random_samples(Entry("torchvision", name), (3, side, side))
net = getattr(torchvision.models, name)(num_classes=classes)
x = samples["x_train"].astype(np.float32)
x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
run_norms(net, torch.from_numpy(np.ascontiguousarray(x[:64].transpose(0, 3, 1, 2))))
torch.save(net.state_dict(), "weights.pt")
np.savez("data.npz", **samples)
"""


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Returns a command's seconds by the clock and of the processor, its children's included.

    Raises:
        SystemExit: It failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own commands
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def stages(folder: Path) -> dict[str, float]:
    """Returns the seconds of each stage of a run, from its events."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return {one["stage"]: round(one["seconds"], 1) for one in events if one["kind"] == "stage-end"}


def case(folder: Path, source: Path) -> dict[str, Any]:
    """Returns a row: the run and the bare conversion, one after the other."""
    environment = os.environ | {"EDGECOMPRESS_STORE": str(folder / "store")}
    path = os.pathsep.join(str(source / one) for one in ("compress", "cli", "."))
    run = [sys.executable, "-m", "edgecompress", "run", "recipe.yaml", "--output", "out"]
    load = os.getloadavg()[0]
    environment["PYTHONPATH"] = path
    run_s, run_cpu = timed(run, folder, environment)
    bare_s, bare_cpu = timed([sys.executable, "bare.py"], folder, environment)
    each = stages(folder / "out")
    return {
        "run_s": round(run_s, 1), "bare_s": round(bare_s, 1), "ratio": round(run_s / bare_s, 2),
        "run_cpu_s": round(run_cpu, 1), "bare_cpu_s": round(bare_cpu, 1), "cpu_ratio": round(run_cpu / bare_cpu, 2),
        "stages": " ".join(f"{stage} {seconds}" for stage, seconds in each.items()),
        "verify_share": round(each["verify"] / run_s, 2), "load": round(load, 1),
    }  # fmt: skip


def main() -> None:
    """Times what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout that is timed")
    parser.add_argument("--table", type=Path, default=RESULTS / "conversion.csv")
    parser.add_argument("--keep", type=Path, help="a folder for data, weights and the last run")
    options = parser.parse_args()
    table = Table(options.table, COLUMNS, options.source)
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models:
            place = ((options.keep or Path(temporary)) / name).resolve()
            place.mkdir(parents=True, exist_ok=True)
            (place / "recipe.yaml").write_text(RECIPE.format(name=name, calibration=CALIBRATION))
            (place / "bare.py").write_text(BARE.format(name=name, classes=CLASSES, calibration=CALIBRATION))
            sizes = [str(one) for one in (SIDE, CLASSES, CALIBRATION, TEST)]
            roots = os.pathsep.join(str(ROOT / one) for one in ("compress", "cli", "."))
            timed([sys.executable, "-c", PREPARE, name, *sizes], place, os.environ | {"PYTHONPATH": roots})
            for time_ in range(options.times):
                if not table.done(name, time_):
                    timed(["rm", "-rf", "store", "out"], place, dict(os.environ))
                    table.append(name, time_, **case(place, options.source.resolve()))
                    print(table.rows()[-1], flush=True)
    table.show("model", COLUMNS)


if __name__ == "__main__":
    main()
