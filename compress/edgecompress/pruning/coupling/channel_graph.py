"""Which channels have to go together: torch-pruning's dependency graph, read into plain data.

The graph (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning") is traced once for every use: training
between two pruning steps may move or replace parameters, and a fresh trace is cheap beside an epoch.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.branches import FAILURES, outputs_and_branches, tensors_of
from edgecompress.pruning.coupling.channels import ROOT_TYPES, Coupled, Root, holders, parts_of, sharing, unfit
from edgecompress.pruning.coupling.cut import Channels, cut
from edgecompress.pruning.coupling.dependencies import Barrier, Graph
from edgecompress.pruning.coupling.heads import find_attention
from edgecompress.pruning.coupling.library import Kind, Node, OutputOp, parameter_name, path_of
from edgecompress.pruning.recurrent import RECURRENT, stand_ins


class ChannelGraph:
    """The prunable channels of a model as it is now.

    Attributes:
        roots: What can be pruned, in a fixed order.
        whole: Path of each conv, linear, recurrent or attention layer that must keep its width -> why.
    """

    def __init__(
        self, model: nn.Module, example: torch.Tensor, protected: Iterable[str] = (), following: Iterable[str] = ()
    ) -> None:
        """Traces the model.

        Args:
            model: Comes back as it was (mode, gradients).
            example: A batch the model takes, on the model's device.
            protected: Paths of modules whose output widths stay.
            following: Roots whose width modules hold in attributes, which follow it.

        Raises:
            ModelError: The model cannot be run or traced.
        """
        self.model = model
        self._outputs: list[Any] = []
        run(model, example)
        with undisturbed(model), torch.no_grad():
            _, self._branches = outputs_and_branches(model, example)
        with undisturbed(model):
            attention, self.whole = find_attention(model, example)
        projections = [layer for each in attention for layer in each.projections(model)]
        with undisturbed(model), stand_ins(model) as self._recurrent:
            try:
                groups = self._groups(model, example, projections, careful=False)
            except Exception:  # noqa: BLE001 - see there
                groups = self._groups_with_care(model, example, projections)
        names: dict[Any, str] = {module: name for name, module in model.named_modules()}
        self._ends = self._output_modules()
        shared = sharing(model)
        guarded = tuple(f"{name}." if name else "" for name in protected)
        roots: list[Root] = []
        read = [(group, self._read(group, names)) for group in groups]
        for group, root in [*read, *(((), each.root(model)) for each in attention)]:
            reason = self._reason(group, root, shared, guarded)
            if reason:
                self.whole.update(dict.fromkeys(root.members, reason))
            else:
                roots.append(replace(root, attributes=holders(model, root)) if root.name in following else root)
        self.roots = tuple(roots)
        seen = set(self.whole).union(*(root.members for root in roots))
        # The output projection of an attention layer goes with it.
        inner = {id(module.out_proj) for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
        for name, module in model.named_modules():
            if isinstance(module, (*ROOT_TYPES, *RECURRENT)) and name not in seen and id(module) not in inner:
                self.whole[name] = "its output channels are not used, or belong to a layer that cannot be pruned"

    def remove(self, removals: Mapping[str, Sequence[int]]) -> Channels:
        """Cuts channels out of the model, in place, and returns those that were kept (see `cut`).

        Args:
            removals: Path of a root -> its channels to remove. After this the graph is out of date.

        Raises:
            ModelError: A layer cannot be cut.
        """
        return cut(self.model, self.roots, removals)

    def _groups(
        self, model: nn.Module, example: torch.Tensor, projections: list[nn.Module], *, careful: bool
    ) -> list[Any]:
        self._graph = Graph(self._branches, careful=careful)
        self._graph.build_dependency(
            model,
            # A tuple: a bare tensor would be tried as model(*tensor) first, sample by sample.
            example_inputs=(example,),
            output_transform=self._remember_outputs,
            unwrapped_parameters=[],
            customized_pruners={},
            ignored_layers=list(self._recurrent.first),
            ignored_params=[],
            verbose=False,
        )
        kinds = list(ROOT_TYPES)
        return list(self._graph.get_all_groups(ignored_layers=projections, root_module_types=kinds))

    def _groups_with_care(self, model: nn.Module, example: torch.Tensor, projections: list[nn.Module]) -> list[Any]:
        """Returns the groups of a model that torch-pruning fails on: channels end at whatever it may not understand."""
        try:
            return self._groups(model, example, projections, careful=True)
        except Exception as error:
            # Anything can come out of the tracing of a model it was not written for; the cause is kept.
            near = _layer_of(error.__traceback__)
            raise ModelError(
                f"the channel dependencies of {type(model).__name__} cannot be followed{near}: "
                f"{type(error).__name__}: {error}. Use `method: unstructured`, or leave out `prune`."
            ) from error

    def _remember_outputs(self, outputs: Any) -> Any:
        tensors = tensors_of(outputs)
        self._outputs = [tensor.grad_fn for tensor in tensors]
        return tensors

    def _output_modules(self) -> set[int]:
        nodes = self._graph.module2node.items()
        return {id(module) for module, node in nodes if any(node.grad_fn is end for end in self._outputs)}

    def _read(self, group: Any, names: dict[nn.Module, str]) -> Root:
        coupled: list[Coupled] = []
        groups = 1
        for position, (dependency, channels) in enumerate(group):
            target = self._recurrent.real(dependency.target.module)
            if dependency.target.type == Kind.SPLIT:
                groups = max(groups, len(self._graph.parts.get(target, ())))
            name = names.get(target) if isinstance(target, nn.Module) else parameter_name(self._graph, target)
            if name is None:
                continue  # an operation without weights, such as an addition
            # Layers that treat both sides alike (norms, depthwise convs) have one handler for both: `out`.
            axis: Literal["out", "in"] = "out" if self._graph.is_out_channel_pruning_fn(dependency.handler) else "in"
            if isinstance(target, RECURRENT) and any(each.name == name and each.axis == axis for each in coupled):
                continue  # its other direction
            coupled.append(Coupled(name, target, axis, tuple(channels), tuple(group[position].root_idxs)))
            groups = max(groups, parts_of(target))
        return Root(coupled[0].name, len(coupled[0].channels), groups, tuple(coupled))

    def _reason(self, group: Any, root: Root, shared: dict[int, str], protected: tuple[str, ...]) -> str:
        """Returns why a group has to keep its width, "" where it need not."""
        for dependency, _ in group:
            reason = self._obstacle(dependency, root)
            if reason:
                return reason
        for item in root.coupled:
            if item.axis == "out" and f"{item.name}.".startswith(protected):
                return f"{item.name} is protected"
            if id(item.target) in shared:
                return f"{item.name} shares its weights with {shared[id(item.target)]}"
            reason = unfit(item, root)
            if reason:
                return reason
        return ""

    def _obstacle(self, dependency: Any, root: Root) -> str:
        """Returns why channels cannot be cut at an operation or output that they reach, "" where they can be."""
        target = dependency.target.module
        is_out = self._graph.is_out_channel_pruning_fn(dependency.handler)
        if isinstance(target, Barrier):
            return f"its channels change places or are divided on the way to the next layer ({target.what})"
        if is_out and (id(target) in self._ends or isinstance(target, OutputOp)):
            return "it makes the model's output"
        if dependency.target.type == Kind.SPLIT:
            sizes = self._graph.parts.get(target)
            if sizes is None:
                return "its channels are added to those of a split whose parts are not told apart"
            if set(sizes) != {root.width // len(sizes)} or root.channel_groups % len(sizes):
                return f"its channels are split into parts of {sizes}"
        return ""


def run(model: nn.Module, example: torch.Tensor) -> list[torch.Tensor]:
    """Returns the model's outputs without gradients, in evaluation mode and with branches that only training takes.

    The model keeps its mode.

    Raises:
        ModelError: The model fails on the example.
    """
    with undisturbed(model), torch.no_grad():
        try:
            outputs, _ = outputs_and_branches(model, example)
        except FAILURES as error:
            raise ModelError(
                f"{type(model).__name__} cannot be run on an input of shape {tuple(example.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
    return tensors_of(outputs)


def clone(model: nn.Module) -> nn.Module:
    """Returns a copy to try things on.

    Raises:
        ModelError: The model holds something that cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"{type(model).__name__} cannot be copied, which pruning needs: {error}") from error


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Lets one work in evaluation mode with gradients on everything; both are put back, parameter by name."""
    modes = {module: module.training for module in model.modules()}
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        model.eval()
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad = True
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for name, parameter in model.named_parameters():
            parameter.requires_grad = learns[name]


def _layer_of(trace: TracebackType | None) -> str:
    """Returns " near LAYER" for the graph node that torch-pruning was busy with when it failed, else ""."""
    nodes = []
    while trace is not None:
        nodes += [value for value in trace.tb_frame.f_locals.values() if isinstance(value, Node)]
        trace = trace.tb_next
    path = path_of([near for node in reversed(nodes) for near in (node, *node.inputs, *node.outputs)])
    return f" near {path}" if path else ""
