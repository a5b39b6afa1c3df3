"""Networks of several outputs: one is scored, the file has them all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError
from edgecompress.models.construction import check_output
from edgecompress.models.outputs import named_outputs
from edgecompress.tflite.format.convert import convert

ENDS = Ends((4,), (3,), kind="features")


class Pair(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


class Net(nn.Module):
    """Gives out scores and what they are made of, in some form."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.body, self.head, self.form = nn.Linear(4, 5), nn.Linear(5, 3), form

    def forward(self, x: torch.Tensor) -> Any:
        hidden = torch.relu(self.body(x))
        return self.form(self.head(hidden), hidden)


def test_outputs_have_the_names_of_keys_fields_and_places() -> None:
    x, y = torch.zeros(1, 2), torch.zeros(1, 3)
    assert list(named_outputs({"a": x, "b": {"c": y, "d": None}})) == ["a", "b.c"]
    assert list(named_outputs(Answer(x, y))) == ["logits", "hidden"]
    assert list(named_outputs(Pair(x, y))) == ["logits", "hidden"]
    assert list(named_outputs((x, [y, x]))) == ["0", "1.0", "1.1"]
    assert list(named_outputs(x)) == ["output"]
    assert named_outputs(3) == {}


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (lambda scores, hidden: {"hidden": hidden, "logits": scores}, "logits"),
        (Answer, "logits"),
        (Pair, "logits"),
        (lambda scores, hidden: (hidden, scores), "1"),
    ],
    ids=["dict", "dataclass", "named tuple", "tuple"],
)
def test_the_output_that_is_named_is_what_the_network_gives(form: Any, name: str) -> None:
    net = Net(form).eval()
    before = set(net.state_dict())
    check_output("net", net, ENDS, name)
    x = torch.randn(2, 4)
    torch.testing.assert_close(net(x), net.head(torch.relu(net.body(x))))
    assert set(net.state_dict()) == before


def test_one_tensor_in_a_shell_needs_no_name() -> None:
    net = Net(lambda scores, _hidden: Answer(scores)).eval()
    check_output("net", net, ENDS)
    assert net(torch.zeros(1, 4)).shape == (1, 3)


def test_several_outputs_are_refused_by_name_until_one_is_chosen() -> None:
    with pytest.raises(ModelError, match=r"several outputs: `logits` \[1, 3\], `hidden` \[1, 5\]. .*`output: logits`"):
        check_output("net", Net(Answer), ENDS)
    with pytest.raises(ModelError, match=r"no output `logitz`. It has `logits` \[1, 3\], `hidden`"):
        check_output("net", Net(Answer), ENDS, "logitz")
    with pytest.raises(ModelError, match=r"a tensor of \(1, 5\) for one sample"):
        check_output("net", Net(Answer), ENDS, "hidden")


def test_the_flatbuffer_has_all_outputs_the_scored_one_first(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    net = Net(lambda scores, hidden: {"hidden": hidden, "logits": scores}).eval()
    check_output("net", net, ENDS, "logits")
    convert(net, (4,), tmp_path / "net.tflite")
    run = Interpreter(str(tmp_path / "net.tflite")).get_signature_runner()
    x = np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32)
    found = run(**{next(iter(run.get_input_details())): x})
    with torch.no_grad():
        hidden = torch.relu(net.body(torch.from_numpy(x)))
        scores = net.head(hidden)
    np.testing.assert_allclose(found["logits"], scores.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["hidden"], hidden.numpy(), atol=1e-5)
    interpreter = Interpreter(str(tmp_path / "net.tflite"))
    assert [list(one["shape"]) for one in interpreter.get_output_details()] == [[1, 3], [1, 5]]
