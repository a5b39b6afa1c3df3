"""Pruned models come back into the user's own module: no pickle, no pruning library, clear errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.weights import save_weights
from edgecompress.pipeline.run import run_pipeline
from edgecompress.pruning.architecture import architecture_of
from edgecompress.pruning.loading import load_pruned
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.recipe.schema import Recipe
from edgecompress.store.store import Store
from tests.shared.processes import unmeasured
from tests.unit.pruning.pruning_nets import example, make

ROOT = Path(__file__).parents[3]
MODULE = textwrap.dedent('''
    """A user's network: a residual block, and one layer that is used twice."""

    import torch
    from torch import nn


    class MyNet(nn.Module):
        def __init__(self, num_classes, width=16):
            super().__init__()
            self.stem, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
            self.shared = nn.Conv2d(width, width, 3, padding=1)
            self.short, self.down = nn.Conv2d(width, 32, 1), nn.Conv2d(width, 32, 3, padding=1)
            self.head = nn.Linear(32, num_classes)

        def forward(self, x):
            x = torch.relu(self.norm(self.stem(x)))
            x = torch.relu(self.shared(torch.relu(self.shared(x)))) + x
            return self.head(torch.relu(self.down(x) + self.short(x)).mean((2, 3)))
''')


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the pipeline's prune stage left MyNet, with the user's file beside it."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_net.py").write_text(MODULE)
    train = {"epochs": 1, "batch_size": 64}
    document = {
        "version": 1, "name": "mine", "threads": 1, "data": {"source": "digits", "train_samples": 200},
        "student": {"model": "python:my_net:MyNet", "args": {"width": 24}, "train": train},
        "prune": {"ratio": 0.5, "of": "macs", "steps": 2, "round_to": 4, "train": {"epochs": 2, "batch_size": 64}},
        "quantize": {"mode": "ptq"},
    }  # fmt: skip
    recipe = Recipe.model_validate(document, context={"base_dir": folder}).model_copy(update={"base_dir": str(folder)})
    store = Store(folder / "store")
    with pytest.MonkeyPatch.context() as patch:  # it is not timed whether the pruned model is faster
        patch.setattr("edgecompress.stages.pruning.yardstick.timed", lambda paths, *_: dict.fromkeys(paths, (1.0, 0.5)))
        run_pipeline(recipe, output=folder / "run", store=store, trust=True, until="prune")
    (found,) = (folder / "store").rglob("architecture.json")
    (found.parent / "my_net.py").write_text(MODULE)
    return found.parent


def my_net(width: int = 24) -> nn.Module:
    names: dict[str, type[nn.Module]] = {}
    exec(compile(MODULE, "my_net.py", "exec"), names)  # noqa: S102 - written above
    return names["MyNet"](10, width)


def test_the_stage_tells_base_and_channels(stage):
    plan = json.loads((stage / "architecture.json").read_text())
    assert plan["version"] == 2
    base = {name: value for name, value in plan["base"].items() if name != "parameters"}
    assert base == {
        "model": "python:my_net:MyNet", "args": {"width": 24}, "input_shape": [1, 8, 8], "num_classes": 10,
        "outputs": [10],
    }  # fmt: skip
    kept = plan["modules"]["shared"]["kept"]
    assert kept["out"] == kept["in"] == plan["modules"]["stem"]["kept"]["out"]
    assert len(kept["out"]) < 24
    assert plan["base"]["parameters"]["shared.weight"] == [24, 24, 3, 3]


def test_it_comes_back_where_there_is_neither_pruning_library_nor_pickle(stage, tmp_path):
    model = load_pruned(my_net(), stage)
    assert not model.training
    x = torch.randn(3, 1, 8, 8)
    save_file({"x": x, "y": model(x).detach()}, tmp_path / "pair.safetensors")
    program = f"""
        import sys, pickle
        class Block:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "torch_pruning":
                    raise ImportError("there is no pruning library here")
        sys.meta_path.insert(0, Block())
        sys.path.insert(0, {str(stage)!r})
        import torch
        def refuse(*args, **more):
            raise RuntimeError("pickle was used")
        from my_net import MyNet
        from edgecompress import load_pruned
        from edgecompress.pruning.architecture import apply_architecture
        from safetensors.torch import load_file
        pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
        model = load_pruned(MyNet(10, 24), {str(stage / "architecture.json")!r}, {str(stage / "weights.safetensors")!r})
        pair = load_file({str(tmp_path / "pair.safetensors")!r})
        print(float((model(pair["x"]) - pair["y"]).abs().max()), "torch_pruning" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT, env=unmeasured(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "0.0 False\n", done.stderr


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    base, model = make("residual"), make("residual")
    pruner = StructuredPruner(model, example(), of="macs", ratio=0.4, steps=1)
    pruner.prune_step(1)
    plan = architecture_of(base, model, kept=pruner.kept, origin={"model": "residual", "args": {}})
    (tmp_path / "architecture.json").write_text(json.dumps(plan))
    save_weights(model, tmp_path / "model.safetensors")
    return tmp_path


def test_files_may_be_named_or_lie_in_a_folder(saved):
    outputs = [
        load_pruned(make("residual", seed=3), *where)(example())
        for where in (
            (saved,), (str(saved),), (saved / "architecture.json",),
            (saved / "architecture.json", saved / "model.safetensors"),
        )
    ]  # fmt: skip
    assert all(torch.equal(one, outputs[0]) for one in outputs)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "architecture.json").unlink(), r"architecture\.json cannot be read: No such file"),
        (lambda folder: (folder / "architecture.json").write_text("{"), r"architecture\.json is not JSON"),
        (lambda folder: (folder / "architecture.json").write_text("[]"), "is not an architecture plan"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"weights .*model\.safetensors are not there"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), r"model\.safetensors"),
        (
            lambda folder: save_file(
                {name.replace("head", "top"): t for name, t in load_file(folder / "model.safetensors").items()},
                folder / "model.safetensors",
            ),
            r"do not fit the model\. 2 missing: head\.weight, head\.bias\. 2 unexpected: top\.",
        ),
    ],
)
def test_bad_files_are_clear_errors(saved, spoil, message):
    spoil(saved)
    with pytest.raises(ModelError, match=message):
        load_pruned(make("residual"), saved)


def test_another_base_model_is_named_and_left_as_it_is(saved):
    other = make("plain")
    with pytest.raises(
        ModelError, match=r"another base model \(model: residual, args: \{\}\)\. That one has a1\.0\.weight"
    ):
        load_pruned(other, saved)
    assert all(torch.equal(one, two) for one, two in zip(other.parameters(), make("plain").parameters(), strict=True))
    pruned = load_pruned(make("residual"), saved)
    with pytest.raises(ModelError, match="Build the base model as it was before pruning"):
        load_pruned(pruned, saved)
