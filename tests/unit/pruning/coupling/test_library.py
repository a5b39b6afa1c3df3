"""What torch-pruning keeps private is there, and does what the dependency graph uses it for."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from torch import nn

from edgecompress.pruning.coupling import library
from edgecompress.pruning.coupling.library import DependencyGraph, Group, Kind, Node
from tests.shared.processes import HUNG_S, unmeasured

ROOT = Path(__file__).parents[4]


class Parts(nn.Module):
    """A split, of whose parts one is scaled by a parameter of the model's own, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 12, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(8, 5, 1)
        self.deep = nn.Conv2d(11, 11, 3, groups=11)
        self.head = nn.Conv2d(11, 2, 1)
        self.scale = nn.Parameter(torch.ones(1, 6, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.stem(x).split([4, 8], dim=1)
        x = self.deep(torch.cat([self.left(left) * self.scale, self.right(right)], dim=1))
        return self.head(x).mean((2, 3))


class Noting(DependencyGraph):
    """Notes what it is asked while it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, type]] = []

    def _trace(self, model: nn.Module, *args: object, **more: object) -> dict[object, Node]:
        self.asked.append(("trace", type(model)))
        return super()._trace(model, *args, **more)

    def _build_dependency(self, module2node: dict[object, Node]) -> None:
        self.asked.append(("build", type(next(iter(module2node.values())))))
        library.init_shapes(self)
        super()._build_dependency(module2node)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return Parts()


@pytest.fixture(scope="module")
def graph(model: nn.Module) -> Noting:
    graph = Noting()
    graph.build_dependency(model, example_inputs=(torch.zeros(1, 3, 6, 6),), verbose=False)
    return graph


def node_of(graph: DependencyGraph, kind: Kind) -> Node:
    (found,) = [node for node in graph.module2node.values() if node.type == kind]
    return found


def numbers(channels: list[library.Channel]) -> list[tuple[int, int]]:
    return [(one.idx, one.root_idx) for one in channels]


def test_building_a_graph_asks_its_own_two_steps(graph):
    assert graph.asked == [("trace", Parts), ("build", Node)]


def test_nodes_know_layer_kind_neighbours_and_autograd(graph, model):
    stem = graph.module2node[model.stem]
    assert (stem.module, stem.type, stem._name) == (model.stem, Kind.CONV, "stem")
    assert stem.outputs == [node_of(graph, Kind.SPLIT)]
    assert node_of(graph, Kind.SPLIT).inputs == [stem]
    assert stem.grad_fn.name().startswith("ConvolutionBackward")
    assert node_of(graph, Kind.CONCAT).enable_index_mapping in (True, False)
    assert library.path_of([node_of(graph, Kind.SPLIT), stem]) == "stem"
    assert library.path_of([node_of(graph, Kind.SPLIT)]) == ""


def test_edges_lead_from_handler_to_handler_with_two_mappings(graph, model):
    stem, split = graph.module2node[model.stem], node_of(graph, Kind.SPLIT)
    handler = graph.get_pruner_of_module(model.stem).prune_out_channels
    (edge,) = [edge for edge in stem.dependencies if edge.target is split]
    assert edge.is_triggered_by(handler)
    assert not edge.is_triggered_by(graph.get_pruner_of_module(model.stem).prune_in_channels)
    assert edge.index_mapping == [None, None]
    assert graph.is_out_channel_pruning_fn(handler)
    assert graph.is_out_channel_pruning_fn(library.prune_depthwise_conv_out_channels)
    deep = graph.module2node[model.deep]
    assert deep.type == Kind.DEPTHWISE_CONV
    assert library.prune_depthwise_conv_out_channels == graph.get_pruner_of_module(model.deep).prune_out_channels


def test_channels_of_parts_and_places(graph, model):
    split, both = node_of(graph, Kind.SPLIT), node_of(graph, Kind.CONCAT)
    assert split.module.split_sizes == [4, 8]
    # The n-th reader is taken for that of the n-th part, whichever it reads: `Graph` puts that right.
    assert [library.channels_between(graph, split, reader) for reader in split.outputs] == [4, 8]
    assert sorted(library.channels_between(graph, before, both) for before in both.inputs) == [5, 6]
    assert library.channels_out_of(graph, both) == 11
    assert library.channels_out_of(graph, graph.module2node[model.stem]) == 12
    assert (graph.get_in_channels(model.left), graph.get_out_channels(model.left)) == (4, 6)


def test_mappings_move_channels_and_keep_what_they_go_with():
    some = library.beginning([1, 4, 5])
    assert numbers(some) == [(1, 1), (4, 4), (5, 5)]
    assert numbers(library.split(4, 12, reverse=False)(some)) == [(0, 4), (1, 5)]
    assert numbers(library.split(4, 12, reverse=True)(some)) == [(5, 1), (8, 4), (9, 5)]
    assert numbers(library.concatenated(6, 11, reverse=False)(some)) == [(7, 1), (10, 4), (11, 5)]
    assert numbers(library.concatenated(4, 6, reverse=True)(some)) == [(0, 4), (1, 5)]
    assert some[0]._replace(idx=7) == library.Channel(7, 1)


def test_a_group_keeps_the_roots_channels_of_each_side(graph, model):
    stem, left = graph.module2node[model.stem], graph.module2node[model.left]
    handler = graph.get_pruner_of_module(model.stem).prune_out_channels
    first = library.Dependency(handler, handler, source=stem, target=stem)
    second = library.Dependency(handler, handler, source=stem, target=left)
    group = library.group_of(graph, [(first, {4: 4, 5: 5}), (second, {0: 4})])
    assert isinstance(group, Group)
    assert [(item.dep.target, item.idxs, item.root_idxs) for item in group.items] == [
        (stem, [4, 5], [4, 5]),
        (left, [0], [4]),
    ]
    assert [(dependency.target, channels) for dependency, channels in group] == [(stem, [4, 5]), (left, [0])]


def test_parameters_of_the_models_own_have_a_name(graph, model):
    assert library.parameter_name(graph, model.scale) == "scale"
    assert library.parameter_name(graph, nn.Parameter(torch.zeros(1))) is None


def test_an_output_is_an_end_for_channels(graph, model):
    assert Node(library.OutputOp(id=-1, shape=[]), None).type == Kind.OUTPUT
    assert [type(one.module) for one in graph.module2node[model.head].outputs] == [library.OutputOp]


def test_a_release_that_moved_a_name_is_told():
    """In a process of its own; the version in the message is the one that is installed."""
    program = (
        "import torch_pruning\n"
        "del torch_pruning.ops._OutputOp\n"
        "from edgecompress.errors import ResourceError\n"
        "try:\n"
        "    import edgecompress.pruning.coupling.library\n"
        "except ResourceError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=unmeasured(os.environ), capture_output=True, text=True, timeout=HUNG_S, check=False,
    )  # fmt: skip
    (bound,) = (
        one
        for one in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
        if one.startswith("torch-pruning")
    )
    assert "_OutputOp" in done.stdout, done.stderr
    assert f"pip install '{bound}'" in done.stdout
    assert Requirement(bound).specifier.contains("1.6.9")
    assert not Requirement(bound).specifier.contains("1.7.0")
