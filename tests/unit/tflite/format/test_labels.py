"""Operators are named after the torch modules they come from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import module_paths, operator_labels
from edgecompress.tflite.format.views import graph_views
from tests.unit.made_flatbuffer import Op, int8, make_model


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


class Stage(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(channels), Block(channels)])
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.pool(x)


class Nested(nn.Module):
    """Residual blocks in lists within stages, a depthwise layer used twice, and activations shared and merged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.stages = nn.Sequential(Stage(4), Stage(4))
        self.shared = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.stem(x))
        x = self.relu(self.shared(self.relu(self.shared(x))) + x)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Nested, Path]:
    torch.manual_seed(0)
    module = Nested().eval()
    path = tmp_path_factory.mktemp("nested") / "nested.tflite"
    convert(module, (3, 8, 8), path)
    return module, path


def test_every_operator_has_the_path_of_its_module(nested: tuple[Nested, Path]) -> None:
    module, path = nested
    model = read_model(path)
    labels = operator_labels(model, module)
    kinds = [op.op for op in graph_views(model)[0].ops]
    by_kind: dict[str, list[str]] = {}
    for label, kind in zip(labels, kinds, strict=True):
        by_kind.setdefault(kind, []).append(label)
    assert by_kind["CONV_2D"] == [
        "stem",
        *(f"stages.{s}.blocks.{b}.{layer}" for s in (0, 1) for b in (0, 1) for layer in ("first.0", "second")),
    ]
    assert by_kind["DEPTHWISE_CONV_2D"] == ["shared", "shared#2"]
    assert by_kind["FULLY_CONNECTED"] == ["head"]
    assert by_kind["MAX_POOL_2D"] == ["stages.0.pool.max_pool_2d", "stages.1.pool.max_pool_2d"]
    assert by_kind["ADD"] == [*(f"stages.{s}.blocks.{b}.add" for s in (0, 1) for b in (0, 1)), "add"]


def test_labels_are_unique_and_repeatable(nested: tuple[Nested, Path]) -> None:
    module, path = nested
    labels = operator_labels(read_model(path), module)
    assert max(Counter(labels).values()) == 1
    assert labels == operator_labels(read_model(path), module)


def test_every_weighted_layer_is_found_once(nested: tuple[Nested, Path]) -> None:
    module, path = nested
    labels = operator_labels(read_model(path), module)
    weighted = {name for name, child in module.named_modules() if isinstance(child, nn.Conv2d | nn.Linear)}
    assert weighted <= set(labels)


def test_paths_are_those_of_all_submodules(nested: tuple[Nested, Path]) -> None:
    paths = module_paths(nested[0])
    assert sorted(paths.values()) == sorted(name for name, _ in nested[0].named_modules() if name)
    written = next(path for path, dotted in paths.items() if dotted == "stages.1.blocks.0.first")
    assert written.split("/")[0] == "torch.nn.modules.container.Sequential_stages"
    assert written.endswith("Block_0/torch.nn.modules.container.Sequential_first")


def test_operators_without_a_path_are_called_by_their_own_name() -> None:
    model = make_model(
        [int8(1, 4, name="a"), int8(1, 4, name="b"), int8(1, 4, name="")],
        [Op("RELU", (0,), (1,)), Op("RELU", (1,), (2,))],
    )
    for tensor in model.subgraphs[0].tensors:
        tensor.name = tensor.name.encode()
    assert operator_labels(model, nn.Identity()) == ["relu", "relu#2"]


def test_a_list_that_is_ambiguous_gives_the_module_around_it() -> None:
    """Modules of two lists have the same written path; better the parent than the wrong one."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.some = nn.ModuleList([nn.Conv2d(1, 1, 1)])
            self.others = nn.ModuleList([nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)])

    module = nn.Sequential(Two())
    model = make_model(
        [int8(1, 4, 4, 1), int8(1, 4, 4, 1), int8(1, 4, 4, 1)], [Op("CONV_2D", (0,), (1,)), Op("CONV_2D", (1,), (2,))]
    )
    here = f"net.Net/{next(iter(module_paths(module)))}/torch.nn.modules.conv.Conv2d_"
    for tensor, number in zip(model.subgraphs[0].tensors, (0, 0, 1), strict=True):
        tensor.name = f"{here}{number};".encode()
    assert operator_labels(model, module) == ["0.conv_2d", "0.others.1"]


def test_an_unknown_module_gives_its_deepest_known_parent() -> None:
    module = nn.Sequential(nn.Sequential(nn.ReLU()))
    written = "net.Net/torch.nn.modules.container.Sequential_0/somewhere.Else_7;"
    model = make_model([int8(1, 4), int8(1, 4)], [Op("RELU", (0,), (1,))])
    for tensor in model.subgraphs[0].tensors:
        tensor.name = written.encode()
    assert operator_labels(model, module) == ["0.relu"]


def test_what_expands_the_weights_of_a_layer_is_named_after_it(nested: tuple[Nested, Path]) -> None:
    module, path = nested
    model = read_model(quantized_structure(path.read_bytes(), Scheme(activations="float32")))
    kinds = [op.op for op in graph_views(model)[0].ops]
    labels = operator_labels(model, module)
    found = {label for label, kind in zip(labels, kinds, strict=True) if kind == "DEQUANTIZE"}
    layers = {name for name, child in module.named_modules() if isinstance(child, nn.Conv2d | nn.Linear)}
    assert found >= {f"{layer}.dequantize" for layer in layers}
    assert layers <= set(labels)
