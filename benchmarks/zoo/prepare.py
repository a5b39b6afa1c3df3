"""What a user would have: data, a network with weights, and the answers that it gives in PyTorch."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.zoo.entry import CLASSES, Entry
from edgecompress.models.libraries.timm_models import build_timm
from edgecompress.models.libraries.torchvision_models import build_torchvision

TRAIN, TEST = 128, 64
#: Models up to this many parameters are run.
MOST_PARAMETERS = 50_000_000
#: Of the byte tokenizer: numbers of tokens begin behind padding and unknown ones.
FIRST_BYTE = 2
#: Scales below this, one a channel, would leave a layer without effect, as in a network that has not learnt yet.
ASLEEP = 0.2
#: Layers whose weights sum up.
SUMMING = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class TooLargeError(Exception):
    """A model is beyond what the zoo runs."""


def build(entry: Entry, shape: tuple[int, ...], folder: Path) -> nn.Module:
    """Returns the entry's network with random weights, always the same ones."""
    torch.manual_seed(0)
    if entry.model.startswith("timm/"):
        return build_timm(entry.model, {}, shape, CLASSES)
    if entry.model.startswith("torchvision/"):
        return build_torchvision(entry.model, {}, shape, CLASSES)
    spec = importlib.util.spec_from_file_location("net", folder / "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["net"] = module
    spec.loader.exec_module(module)
    network: nn.Module = module.Net(num_classes=CLASSES)
    return network


def make(entry: Entry, folder: Path) -> int:
    """Writes data.npz, weights.pt, recipe.yaml and net.py, and returns how many parameters the network has.

    Raises:
        TooLargeError: It is beyond what the zoo runs.
    """
    folder.mkdir(parents=True)
    if entry.program:
        (folder / "net.py").write_text(entry.program)
    (folder / "recipe.yaml").write_text(entry.recipe())
    refused: list[str] = []
    for shape in entry.shapes:
        samples = random_samples(entry, shape)
        try:
            network = build(entry, shape, folder)
            count = weighed(network)
            inputs = torch.from_numpy(as_inputs(entry, samples["x_train"], None))
            with torch.no_grad():
                network.eval()(inputs[:2])
        except TooLargeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library says of a size that it does not take
            refused.append(f"{shape}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        np.savez(folder / "data.npz", **samples)  # type: ignore[arg-type]
        wake(network)
        run_norms(network, inputs)
        torch.save(network.state_dict(), folder / "weights.pt")
        (folder / "made.json").write_text(json.dumps({"shape": shape, "params": count}))
        return count
    raise RuntimeError("; ".join(refused))


def weighed(network: nn.Module) -> int:
    """Returns how many parameters a network has.

    Raises:
        TooLargeError: More than the zoo runs.
    """
    count = sum(parameter.numel() for parameter in network.parameters())
    if count > MOST_PARAMETERS:
        raise TooLargeError(f"{count / 1e6:.0f} million parameters")
    return count


def random_samples(entry: Entry, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Returns arrays as an npz has them: smooth pictures or series, or texts, of classes that are told apart."""
    rng, count = np.random.default_rng(0), TRAIN + TEST
    labels = np.arange(count) % CLASSES
    if entry.takes == "tokens":
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        common = rng.dirichlet(np.full(len(letters), 0.3), CLASSES)
        x: NDArray[Any] = np.array(["".join(rng.choice(letters, shape[0], p=common[label])) for label in labels])
    else:
        channels = shape[0] if entry.takes == "pictures" else shape[1]
        size = shape[1:] if entry.takes == "pictures" else (shape[0], 1)
        coarse = tuple(min(side, max(2, side // 8, 6)) for side in size)
        own = rng.normal(size=(count, channels, *coarse)) + 1.5 * rng.normal(size=(CLASSES, channels, *coarse))[labels]
        own = own * rng.uniform(0.5, 1.5, (count, 1, 1, 1)) + rng.normal(size=(count, channels, 1, 1)) / 2
        smooth = nn.functional.interpolate(torch.from_numpy(own), size=size, mode="bilinear", align_corners=False)
        if entry.takes == "pictures":
            x = (smooth.permute(0, 2, 3, 1).numpy() * 36 + 128).clip(0, 255).astype(np.uint8)
        else:
            x = smooth[..., 0].transpose(1, 2).contiguous().numpy().astype(np.float32)
    return {"x_train": x[:TRAIN], "y_train": labels[:TRAIN], "x_test": x[TRAIN:], "y_test": labels[TRAIN:]}


def as_inputs(entry: Entry, x: NDArray[Any], normalization: dict[str, Any] | None) -> NDArray[Any]:
    """Returns what the network takes of arrays as the npz has them, channels first in pictures.

    Without a report's normalization the arrays' own mean and spread are taken, which are about the same.
    """
    if entry.takes == "tokens":
        return np.stack([np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in x]) + FIRST_BYTE
    axes = tuple(range(x.ndim - 1))
    values = x.astype(np.float32)
    if normalization is None:
        values = (values - values.mean(axes)) / values.std(axes)
    else:
        mean, std = (np.array(normalization[key], np.float32) for key in ("mean", "std"))
        values = (values * np.float32(normalization["value_scale"]) - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if entry.takes == "pictures" else values


def wake(network: nn.Module) -> None:
    """Gives layers that begin at zero or nearly so, as the last of a residual branch often does, what they would learn.

    Weights that are small for what they sum up would leave most of a deep network without effect on its answers.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and bool((parameter == 0).all()):
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
            elif parameter.ndim == 1 and not name.endswith("bias") and float(parameter.abs().max()) < ASLEEP:
                nn.init.uniform_(parameter, 0.5, 1.5)
        for layer in network.modules():
            if isinstance(layer, SUMMING) and layer.weight.numel() > 1:
                usual, spread = layer.weight[0].numel() ** -0.5, float(layer.weight.std())
                if spread < usual / 2:
                    layer.weight.mul_(usual / spread)


def run_norms(network: nn.Module, inputs: torch.Tensor) -> None:
    """Gives batch norms the mean and spread of what reaches them, those in front first."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    before = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    if norms:
        with torch.no_grad():
            for part in torch.split(inputs, 32):
                network(part)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()
