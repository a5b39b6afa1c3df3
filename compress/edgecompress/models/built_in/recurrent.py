"""GRU and LSTM (Cho et al. 2014, Hochreiter and Schmidhuber 1997), and how their steps are unrolled for conversion.

They are trained as torch's own layers. For conversion each step is written out in few operators: what is read of the
input is computed for all steps at once, the gates of a step lie side by side, and no steps are stacked where the last
one is the answer. Every step calls the same modules, under `step`, by which its integers are the same in each
(`quantization.grids.tying`); so one step alone, with its state handed in and out, computes what the whole does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.models.built_in.sequence import embedding_of

#: No value of a step is larger: less than this is zero after a ReLU.
BEYOND = 1000.0


class Recurrent(nn.Module):
    """Embedding of tokens, a recurrent layer, and a linear layer on its last step, or on each.

    Over tokens the recurrent layer has no biases: padding, which is zeros in front, then leaves its state at zero.
    """

    def __init__(self, ends: Ends, kind: type[nn.GRU | nn.LSTM], *, width: int, embedding: int, layers: int) -> None:
        """Builds it for (length,) tokens or (steps, features) series."""
        super().__init__()
        self.embed, channels = embedding_of(ends, embedding)
        self.rnn = kind(channels, width, layers, bias=self.embed is None, batch_first=True)
        if self.embed is None:
            remember(self.rnn)
        self.fc = nn.Linear(width, ends.outputs[-1])
        self.each = len(ends.outputs) == 2  # noqa: PLR2004 - an answer for each step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, outputs), or (N, steps, outputs), for (N, length) tokens or (N, steps, features) series."""
        steps = self.rnn(self.embed(x) if self.embed is not None else x)[0]
        return self.fc(steps if self.each else steps[:, -1])  # type: ignore[no-any-return]

    def for_conversion(self) -> nn.Module:
        """Returns the same with its steps written out."""
        return Unrolled(self)


@torch.no_grad()
def remember(rnn: nn.GRU | nn.LSTM) -> None:
    """Starts the gates by which a state is kept nearly open, by a bias of 1: early steps are heard of at the end.

    They are an LSTM's forget gates and a GRU's update gates z; both come second in torch's parameters, which has two
    biases to add.

    Source: Gers et al. 2000, "Learning to Forget"; Jozefowicz et al. 2015, section 3; for GRUs too Tallec and Ollivier
    2018, "Can recurrent neural networks warp time?", section 2.
    """
    for name, bias in rnn.named_parameters():
        if name.startswith("bias_"):
            bias[rnn.hidden_size : 2 * rnn.hidden_size] = 1.0 if name.startswith("bias_ih") else 0.0


def gru(ends: Ends, width: int = 64, embedding: int = 64, layers: int = 1) -> nn.Module:
    """Returns a network of gated recurrent units.

    Args:
        ends: What it is built between.
        width: Hidden units.
        embedding: Numbers a token is described by.
        layers: Recurrent levels.
    """
    return Recurrent(ends, nn.GRU, width=width, embedding=embedding, layers=layers)


def lstm(ends: Ends, width: int = 64, embedding: int = 64, layers: int = 1) -> nn.Module:
    """Returns a network with long short-term memory; the arguments are those of `gru`."""
    return Recurrent(ends, nn.LSTM, width=width, embedding=embedding, layers=layers)


class Sum(nn.Module):
    """a + b, as a module, so that the operator has a name of its own."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        return a + b


class Difference(nn.Module):
    """a - b, as a module."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Returns the difference."""
        return a - b


class Product(nn.Module):
    """a * b, as a module."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Returns the product."""
        return a * b


class State(nn.Module):
    """What a step hands to the next: a + b, and zeros at first."""

    def forward(self, a: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the sum, or zeros.

        They are made out of `a`: constants would be folded, and the first step would then be computed otherwise than
        the ones behind it, and than the step that is streamed.
        """
        return torch.relu(a - BEYOND) if b is None else a + b


def _rows(weight: torch.Tensor, units: int, gates: Sequence[int]) -> torch.Tensor:
    """Returns the rows of some gates of a recurrent layer's matrix or bias."""
    return torch.cat([weight[gate * units : (gate + 1) * units] for gate in gates])


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


class GruStep(nn.Module):
    """One step of one level, as torch's GRU computes it: n = tanh(in + r * hn), h = h + u * (n - h).

    u = 1 - z is the sigmoid of the negated sum: z's rows and biases are negated. What is added to the state then has
    the state's own grid, and the sum is exact (`edgecompress.quantization.grids.tying`).
    """

    GATES, CANDIDATE = (0, 1), (2,)

    def __init__(self, units: int, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Takes what is read of the last state: (3 * units, units), gates r, z and n."""
        super().__init__()
        self.units = units
        self.gates = _linear(self.gate_rows(weight, units), None)
        self.hidden = _linear(_rows(weight, units, (2,)), None if bias is None else _rows(bias, units, (2,)))
        self.gate_sum, self.sigmoid = Sum(), nn.Sigmoid()
        self.reset, self.candidate_sum, self.tanh = Product(), Sum(), nn.Tanh()
        self.change, self.take, self.state = Difference(), Product(), State()

    @staticmethod
    def gate_rows(matrix: torch.Tensor, units: int) -> torch.Tensor:
        """Returns the rows of r, and those of z negated, of a matrix or bias."""
        return torch.cat([matrix[:units], -matrix[units : 2 * units]])

    @staticmethod
    def biases(ih: torch.Tensor, hh: torch.Tensor, units: int) -> torch.Tensor:
        """Returns what is added to the input's share: that of the state's candidate stays behind, under the gate."""
        return torch.cat([ih[: 2 * units] + hh[: 2 * units], ih[2 * units :]])

    def start(self, gates: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the state before the first step."""
        return (self.state(gates[..., : self.units]),)

    def forward(self, gates: torch.Tensor, candidate: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the state after a step, given the input's share in its gates and candidate."""
        both = self.sigmoid(self.gate_sum(gates, self.gates(state)))
        reset, update = both[..., : self.units], both[..., self.units :]
        new = self.tanh(self.candidate_sum(candidate, self.reset(reset, self.hidden(state))))
        return (self.state(state, self.take(update, self.change(new, state))),)


class LstmStep(nn.Module):
    """One step of one level, as torch's LSTM computes it: c = f * c + i * g, h = o * tanh(c)."""

    GATES, CANDIDATE = (0, 1, 3), (2,)

    def __init__(self, units: int, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Takes what is read of the last state: (4 * units, units), gates i, f, g and o."""
        super().__init__()
        del bias  # all of it is in the input's share
        self.units = units
        self.gates = _linear(self.gate_rows(weight, units), None)
        self.hidden = _linear(_rows(weight, units, self.CANDIDATE), None)
        self.gate_sum, self.sigmoid = Sum(), nn.Sigmoid()
        self.candidate_sum, self.tanh = Sum(), nn.Tanh()
        self.keep, self.add, self.cell = Product(), Product(), State()
        self.squash, self.state = nn.Tanh(), Product()

    @classmethod
    def gate_rows(cls, matrix: torch.Tensor, units: int) -> torch.Tensor:
        """Returns the rows of i, f and o of a matrix or bias."""
        return _rows(matrix, units, cls.GATES)

    @staticmethod
    def biases(ih: torch.Tensor, hh: torch.Tensor, units: int) -> torch.Tensor:
        """Returns what is added to the input's share."""
        del units
        return ih + hh

    def start(self, gates: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns hidden state and cell before the first step: the cell's zeros are read as any other cell is."""
        some = gates[..., : self.units]
        zeros = self.cell(some)
        return self.state(some, self.squash(zeros)), zeros

    def forward(
        self, gates: torch.Tensor, candidate: torch.Tensor, state: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Returns hidden state and cell after a step, given the input's share in its gates and candidate."""
        open_ = self.sigmoid(self.gate_sum(gates, self.gates(state)))
        new = self.tanh(self.candidate_sum(candidate, self.hidden(state)))
        take, keep, give = (open_[..., n * self.units : (n + 1) * self.units] for n in range(3))
        cell = self.cell(self.add(take, new), self.keep(keep, cell))
        return self.state(give, self.squash(cell)), cell


class Share(nn.Module):
    """What gates and candidate get of a level's input."""

    def __init__(self, kind: type[GruStep | LstmStep], weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Takes torch's matrix for the input, and the biases."""
        super().__init__()
        units = weight.shape[0] // (len(kind.GATES) + len(kind.CANDIDATE))
        self.gates = _linear(kind.gate_rows(weight, units), None if bias is None else kind.gate_rows(bias, units))
        rest = None if bias is None else _rows(bias, units, kind.CANDIDATE)
        self.candidate = _linear(_rows(weight, units, kind.CANDIDATE), rest)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns both, (..., units or several times that), for (..., channels)."""
        return self.gates(x), self.candidate(x)


class Level(nn.Module):
    """One level of a recurrent layer; a step keeps the axis of time, so that its slices need no other shape."""

    share: Share
    step_share: Share

    def __init__(self, rnn: nn.GRU | nn.LSTM, number: int) -> None:
        """Takes the parameters of a level of torch's layer."""
        super().__init__()
        kind = GruStep if isinstance(rnn, nn.GRU) else LstmStep
        read, state = (getattr(rnn, f"weight_{part}_l{number}").detach() for part in ("ih", "hh"))
        bias = hidden = None
        if rnn.bias:
            ih, hidden = (getattr(rnn, f"bias_{part}_l{number}").detach() for part in ("ih", "hh"))
            bias = kind.biases(ih, hidden, rnn.hidden_size)
        # The first level's input is there for all steps at once; the others' comes step by step.
        self.add_module("share" if number == 0 else "step_share", Share(kind, read, bias))
        self.step = kind(rnn.hidden_size, state, hidden)

    def forward(self, x: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the hidden state after each step, (N, 1, units), for (N, steps, channels) or the level below's."""
        if isinstance(x, list):
            shares = [self.step_share(one) for one in x]
        else:
            gates, candidates = self.share(x)
            steps = range(x.shape[1])
            shares = [(gates[:, step : step + 1], candidates[:, step : step + 1]) for step in steps]
        state = self.step.start(shares[0][0])
        found = []
        for gates, candidate in shares:
            state = self.step(gates, candidate, *state)
            found.append(state[0])
        return found


class LevelOnce(nn.Module):
    """One step of a level; its layers have the same paths as in the level."""

    def __init__(self, level: Level) -> None:
        """Shares the parameters."""
        super().__init__()
        self._share = "share" if hasattr(level, "share") else "step_share"
        self.add_module(self._share, getattr(level, self._share))
        self.step = level.step
        self.states = 1 if isinstance(level.step, GruStep) else 2

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the state after one step, for (N, 1, channels) and the state before it."""
        gates, candidate = getattr(self, self._share)(x)
        after: tuple[torch.Tensor, ...] = self.step(gates, candidate, *state)
        return after


class Unrolled(nn.Module):
    """A recurrent network with its steps written out."""

    def __init__(self, original: Recurrent) -> None:
        """Takes over the parameters."""
        super().__init__()
        self.embed, self.fc, self.each = original.embed, original.fc, original.each
        self.units = original.rnn.hidden_size
        self.levels = nn.ModuleList(Level(original.rnn, number) for number in range(original.rnn.num_layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what the original does."""
        steps: Any = self.embed(x) if self.embed is not None else x
        for level in self.levels:
            steps = level(steps)
        return self.fc(torch.cat(steps, 1) if self.each else steps[-1].flatten(1))  # type: ignore[no-any-return]


class OneStep(nn.Module):
    """One step of an unrolled network over series, its state handed in and out; layers have the same paths."""

    def __init__(self, unrolled: Unrolled) -> None:
        """Shares the parameters."""
        super().__init__()
        self.levels = nn.ModuleList(LevelOnce(level) for level in unrolled.levels if isinstance(level, Level))
        self.fc, self.units = unrolled.fc, unrolled.units

    @property
    def states(self) -> int:
        """How many tensors of (N, 1, units) the state is: those of the first level first, an LSTM's cell second."""
        return sum(level.states for level in self._each())

    def _each(self) -> list[LevelOnce]:
        return [level for level in self.levels if isinstance(level, LevelOnce)]

    def example(self, features: int) -> tuple[torch.Tensor, ...]:
        """Returns inputs of zeros, each a tensor of its own: one that came twice would be taken for one input."""
        return torch.zeros(1, 1, features), *(torch.zeros(1, 1, self.units) for _ in range(self.states))

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the answer, (N, outputs), and the states after the step, for (N, 1, features) and those before."""
        left, after = list(states), []
        for level in self._each():
            state = level(x, *left[: level.states])
            left, x = left[level.states :], state[0]
            after += state
        return self.fc(x.flatten(1)), *after
