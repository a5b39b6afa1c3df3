"""Hidden units of recurrent layers go, from all gates and readers; what is left computes the same."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from edgecompress.models.count import count
from edgecompress.pruning.architecture import apply_architecture, architecture_of
from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.recurrent import per_unit
from edgecompress.pruning.structured.importance import GroupMagnitude, Taylor
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.pruning.structured.widths import CostModel, item_macs, segments_of
from tests.unit.pruning.pruning_nets import params_of

KINDS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
UNITS, FEATURES = 16, 12
GONE = [0, 5, 6, 15]


class Sequences(nn.Module):
    """A linear layer, a recurrent one, and a head on what `use` takes of it."""

    def __init__(self, kind: str = "gru", use: str = "last", **options: object) -> None:
        super().__init__()
        self.use = use
        self.start = nn.Linear(6, FEATURES)
        self.layer = KINDS[kind](FEATURES, UNITS, **{"batch_first": True, **options})
        ways = 2 if self.layer.bidirectional else 1
        self.head = nn.Linear(UNITS * ways, 5)
        self.conv = nn.Conv1d(UNITS * ways, 5, 3) if use == "conv" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        if not self.layer.batch_first:
            x = x.transpose(0, 1)
        if self.use == "packed":
            x = pack_padded_sequence(x, torch.tensor([7] * x.shape[0]), batch_first=True)
        if self.use == "from zero":
            x, state = self.layer(x, self.layer.weight_hh_l0.new_zeros(1, x.shape[0], self.layer.hidden_size))
        else:
            x, state = self.layer(x)
        state = state[0] if isinstance(state, tuple) else state
        if self.use == "packed":
            x = pad_packed_sequence(x, batch_first=True)[0]
        if not self.layer.batch_first:
            x = x.transpose(0, 1)
        if self.use == "conv":
            return self.conv(x.transpose(1, 2)).mean(2)
        if self.use == "state":
            return self.head(torch.cat([state[-2], state[-1]], 1) if self.layer.bidirectional else state[-1])
        return self.head(x if self.use == "every" else x.mean(1) if self.use == "mean" else x[:, -1])


class Cells(nn.Module):
    """A cell called step by step."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.start, self.layer, self.head = nn.Linear(6, FEATURES), kind(FEATURES, UNITS), nn.Linear(UNITS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = x.new_zeros(x.shape[0], self.layer.hidden_size)
        memory = state
        for step in self.start(x).unbind(1):
            if isinstance(self.layer, nn.LSTMCell):
                state, memory = self.layer(step, (state, memory))
            else:
                state = self.layer(step, state)
        return self.head(state)


class Translator(nn.Module):
    """The last state of one layer is the first of the next: both have to lose the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(6, FEATURES)
        self.layer = nn.GRU(FEATURES, UNITS, batch_first=True)
        self.second = nn.GRU(FEATURES, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        return self.head(self.second(x, self.layer(x)[1])[0][:, -1])


class Stacked(nn.Module):
    """Two recurrent layers in a row, and a residual around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(6, FEATURES)
        self.layer = nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.second = nn.GRU(UNITS, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(self.start(x))[0]
        return self.head((x + self.second(x)[0]).mean(1))


CASES = {
    **{kind: (lambda kind=kind: Sequences(kind)) for kind in KINDS},
    "deep, both ways": lambda: Sequences("lstm", "every", num_layers=2, bidirectional=True),
    "state, both ways": lambda: Sequences("gru", "state", num_layers=3, bidirectional=True),
    "state": lambda: Sequences("lstm", "state", num_layers=2),
    "time first": lambda: Sequences("gru", "mean", batch_first=False),
    "conv": lambda: Sequences("rnn", "conv", nonlinearity="relu", bias=False),
    "packed": lambda: Sequences("lstm", "packed", bidirectional=True),
    "from zero": lambda: Sequences("gru", "from zero"),
    "gru cell": lambda: Cells(nn.GRUCell),
    "lstm cell": lambda: Cells(nn.LSTMCell),
    "rnn cell": lambda: Cells(nn.RNNCell),
    "translator": Translator,
    "stacked": Stacked,
}


def make(case: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = CASES[case]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.4)
    return model.eval()


def example(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 7, 6, generator=torch.Generator().manual_seed(1))


def silenced(model: nn.Module, units: list[int]) -> nn.Module:
    """A copy whose recurrent layers of UNITS units have none of these: they start at zero and stay there."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for layer in copied.modules():
            if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
                for parameter in layer.parameters():
                    gates = parameter.shape[0] // UNITS
                    parameter[[gate * UNITS + unit for gate in range(gates) for unit in units]] = 0.0
    return copied


@pytest.mark.parametrize("case", CASES)
def test_the_model_without_units_gives_what_it_gives_with_them_at_zero(case):
    model = make(case)
    expected = silenced(model, GONE)(example())
    graph = ChannelGraph(model, example())
    assert not any("layer" in name or "start" in name for name in graph.whole)
    before = params_of(model)
    graph.remove({root.name: GONE for root in graph.roots if "layer" in root.members})
    assert model.layer.hidden_size == UNITS - len(GONE)
    assert params_of(model) < before
    torch.testing.assert_close(model(example()), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, silenced(model, [])(example()[:, :, [5, 4, 3, 2, 1, 0]]), atol=1e-3)
    model.train()(example()).sum().backward()


@pytest.mark.parametrize("case", CASES)
def test_features_that_are_read_go_with_the_layer_that_makes_them(case):
    model = make(case)
    quiet = copy.deepcopy(model)
    with torch.no_grad():
        quiet.start.weight[GONE[:3]] = 0.0
        quiet.start.bias[GONE[:3]] = 0.0
    ChannelGraph(model, example()).remove({"start": GONE[:3]})
    assert model.layer.input_size == model.start.out_features == FEATURES - 3
    torch.testing.assert_close(model(example()), quiet(example()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_costs_are_predicted_exactly(case):
    model = make(case)
    graph = ChannelGraph(model, example())
    now = count(model, (7, 6))
    costs = CostModel(graph.roots, item_macs(now, graph.roots), {"params": now.params, "macs": now.macs})
    segments = [each for root in graph.roots for each in segments_of(root, torch.arange(root.width).double())]
    removed = [len(segment.atoms) // 3 for segment in segments]
    predicted = [costs.cost(measure, segments, removed) for measure in ("params", "macs")]
    graph.remove({root.name: list(range(root.width // 3)) for root in graph.roots})
    after = count(model, (7, 6))
    assert len(segments) >= 2
    assert after.params == pytest.approx(predicted[0], abs=1e-6)
    assert after.macs == pytest.approx(predicted[1], abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_plan_makes_the_model_anew(case):
    base = make(case)
    model = copy.deepcopy(base)
    options = {"ratio": 0.4, "steps": 2, "round_to": 4, "protected": [model.start]}
    pruner = StructuredPruner(model, example(), of="params", **options)
    pruner.prune_step(1)
    pruner.prune_step(2)
    was, now = pruner.report().widths["layer"]
    assert (was, now) == (UNITS, model.layer.hidden_size)
    assert now in (4, 8, 12)
    fresh = make(case, seed=5)
    apply_architecture(fresh, json.loads(json.dumps(architecture_of(base, model))))
    fresh.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(fresh.eval()(example()), model.eval()(example()))


def test_the_model_comes_back_from_the_trace_as_it_was():
    model = make("deep, both ways")
    names, modules = list(model.state_dict()), list(model.modules())
    expected = model(example())
    ChannelGraph(model, example())
    assert list(model.state_dict()) == names
    assert list(model.modules()) == modules
    assert "forward" not in vars(model.layer)
    assert torch.equal(model(example()), expected)


def test_weak_units_go():
    model = make("gru")
    weak = [1, 3, 4, 7, 9, 10, 12, 14]
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0"):
            rows = [gate * UNITS + unit for gate in range(3) for unit in weak]
            getattr(model.layer, name)[rows] *= 1e-3
        model.layer.weight_hh_l0[:, weak] *= 1e-3
        model.head.weight[:, weak] *= 1e-3
    strong = [unit for unit in range(UNITS) if unit not in weak]
    expected = model.head.weight[:, strong].clone()
    StructuredPruner(model, example(), of="params", ratio=0.5, steps=1, protected=[model.start]).prune_step(1)
    assert torch.equal(model.head.weight, expected)


def test_ratings_count_each_weight_of_a_unit():
    layer = nn.GRU(3, 2, num_layers=2, bidirectional=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
        layer.weight_ih_l1_reverse[:, 3] = 2.0  # unit 1 of the way back, as the second level reads it
    # Rows: 3 gates in 2 directions, of 3 and 2 columns below and 4 and 2 above. Columns: of weight_hh 6 rows in 4
    # matrices, of weight_ih above 6 rows in 2 matrices for each direction below.
    plain = 3 * 2 * (3 + 2 + 4 + 2) + 4 * 6 + 2 * 2 * 6
    assert per_unit(layer, "out", torch.Tensor.detach).tolist() == [plain + 3, plain + 3 + 6]
    assert per_unit(layer, "in", torch.Tensor.detach).tolist() == [12.0] * 3


def test_magnitude_and_gradients_rate_units():
    model = make("lstm")
    graph = ChannelGraph(model, example())
    root = next(root for root in graph.roots if "layer" in root.members)
    with torch.no_grad():
        model.head.weight[:, 3] = 0.0
        model.layer.weight_hh_l0[:, 3] = 0.0
    taylor = Taylor()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(model(example()).square().sum(), parameters)
    taylor.observe(model, dict(zip(names, gradients, strict=True)))
    assert taylor(root).argmin() == 3
    assert taylor(root)[3] < 1e-6
    magnitude = GroupMagnitude()(root)
    assert magnitude.shape == (UNITS,)
    assert magnitude.argmin() == 3


class Sized(nn.Module):
    """The first state has a size that is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.layer, self.head = nn.Linear(6, 32), nn.GRU(32, UNITS, batch_first=True), nn.Linear(UNITS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.start(x), torch.zeros(1, x.shape[0], 16))[0][:, -1])


class Projected(nn.Module):
    """An LSTM with projections."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.head = nn.Linear(6, 32), nn.Linear(8, 5)
        self.layer, self.after = nn.LSTM(32, UNITS, batch_first=True, proj_size=8), nn.Linear(6, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(torch.relu(self.start(x)) * torch.relu(self.after(x)))[0][:, -1])


class Flattened(nn.Module):
    """All steps side by side: which columns of the next layer a unit has cannot be told."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.layer = nn.Linear(6, 32), nn.GRU(32, UNITS, batch_first=True)
        self.head = nn.Linear(7 * UNITS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.start(x))[0].flatten(1))


class Output(nn.Module):
    """Its units are the model's output."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.layer = nn.Linear(6, 32), nn.GRU(32, UNITS, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.start(x))[0][:, -1]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Sized, "does not run without some of its channels"),
        (Flattened, "does not run without some of its channels"),
        (Output, "it makes the model's output"),
    ],
)
def test_units_that_must_stay_are_named_with_the_reason_and_the_rest_is_pruned(build, reason):
    torch.manual_seed(0)
    model = build()
    pruner = StructuredPruner(model, example(), of="params", ratio=0.2, steps=1)
    pruner.prune_step(1)
    assert reason in pruner.report().whole["layer"]
    assert model.layer.hidden_size == UNITS
    assert model.start.out_features == model.layer.input_size < 32


def test_projected_units_stay():
    torch.manual_seed(0)
    graph = ChannelGraph(Projected(), example())
    assert graph.whole["layer"] == "layer projects its hidden units"
