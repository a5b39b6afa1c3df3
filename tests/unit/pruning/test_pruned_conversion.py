"""Models without some heads and without some units become INT8 flatbuffers that compute what they do."""

from __future__ import annotations

import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.converted_net import INPUT_SHAPE, Converted, images, run_flatbuffer, shipped


class Patches(nn.Module):
    """A Transformer's layer over nine patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.position = nn.Conv2d(3, 16, 4, stride=4), nn.Parameter(torch.randn(1, 9, 16) * 0.1)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0, norm_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.patch(x).flatten(2).transpose(1, 2) + self.position).mean(1))


class Rows(nn.Module):
    """A GRU over the rows of a small picture."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.layer, self.head = nn.AvgPool2d((4, 3)), nn.GRU(12, 16, batch_first=True), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.pool(x).permute(0, 2, 1, 3).flatten(2))[0][:, -1])


@pytest.mark.parametrize(
    ("build", "name", "protected"),
    [(Patches, "layer.self_attn", ["patch", "layer.linear1", "layer.linear2"]), (Rows, "layer", [])],
)
def test_the_flatbuffer_computes_what_the_pruned_model_does(build, name, protected, tmp_path):
    torch.manual_seed(0)
    model = build()
    kept = [model.get_submodule(path) for path in protected]
    pruner = StructuredPruner(model, images(1), of="params", ratio=0.2, steps=1, round_to=4, protected=kept)
    pruner.prune_step(1)
    before, now = pruner.report().widths[name]
    assert now < before
    model.eval()
    floating = tmp_path / "float.tflite"
    convert(model, INPUT_SHAPE, floating)
    converted = Converted(model, floating, quantized_structure(floating.read_bytes()))
    twin, x = converted.twin(), images(64)
    with torch.no_grad(), twin.floating():
        torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-5)
    twin.calibrate([x])
    content, _ = shipped(converted, twin)
    types = {tensor.type for tensor in read_model(content).subgraphs[0].tensors}
    assert types <= {schema.TensorType.INT8, schema.TensorType.INT32}
    with torch.no_grad():
        expected = model(x)
    answers = torch.from_numpy(run_flatbuffer(content, x)).float()
    assert (answers.argmax(1) == expected.argmax(1)).float().mean() > 0.9
    assert float((answers - expected).abs().max()) < 0.1 * float(expected.abs().max())
