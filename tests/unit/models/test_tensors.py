"""Tensors that are no plain numbers are refused by their names; what fits the model's types exactly is taken."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models import nested
from edgecompress.models.weights import load_foreign_weights

State = dict[str, torch.Tensor]


class Masked(nn.Module):
    """A layer, a mask as its author wrote it, and an index of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("mask", torch.full((3,), -float("inf")))
        self.register_buffer("index", torch.arange(3))


def state() -> State:
    torch.manual_seed(0)
    return Masked().state_dict()


def loaded(path: Path, content: Any, **more: Any) -> nn.Module:
    model = Masked()
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    load_foreign_weights(model, path, **more)
    return model


def silently(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    def made(tensor: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is a prototype, or deprecated
            return make(tensor)

    return made


KINDS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "meta": (lambda t: t.to("meta"), r"a meta tensor: it has a shape, but no values\. Load the model's weights before"),
    "coo": (lambda t: t.to_sparse(), r"sparse \(sparse_coo\)\. Save tensor\.to_dense\(\) in its place"),
    "csr": (silently(torch.Tensor.to_sparse_csr), r"sparse \(sparse_csr\)"),
    "nested": (silently(lambda t: torch.nested.nested_tensor([t])), r"a nested tensor"),
    "quantized": (
        silently(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
        r"quantized \(qint8\)\. Save the weights of the float model",
    ),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), r"of the type float8_e4m3fn\. Save it as float32 times the scale"),
    "float8 range": (lambda t: t.to(torch.float8_e5m2), r"of the type float8_e5m2"),
    "packed": (lambda t: torch.zeros(3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "of the type float4"),
    "complex": (lambda t: t.to(torch.complex64), r"of complex numbers, .* Save tensor\.real"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_other_kinds_of_tensors_are_refused_by_name(tmp_path: Path, kind: str, wrapped: bool) -> None:
    make, message = KINDS[kind]
    odd = {**state(), "fc.weight": make(state()["fc.weight"])}
    content = {"state_dict": {f"model.{name}": one for name, one in odd.items()}, "epoch": 3} if wrapped else odd
    with pytest.raises(ModelError, match=rf"w\.pt: fc\.weight is {message}"):
        loaded(tmp_path / "w.pt", content)


def test_of_several_the_first_is_named_and_the_rest_counted(tmp_path: Path) -> None:
    odd = {name: one.to("meta") for name, one in state().items()}
    with pytest.raises(ModelError, match=r"mask and 3 more are each a meta tensor"):
        loaded(tmp_path / "w.pt", odd)


@pytest.mark.parametrize("kind", ["meta", "nested", "quantized", "float8"])
def test_other_kinds_beside_the_model_harm_nothing(tmp_path: Path, kind: str) -> None:
    good, (make, _) = state(), KINDS[kind]
    content = {"state_dict": good, "quantized": {name: make(one.float()) for name, one in good.items()}}
    model = loaded(tmp_path / "w.pt", content)
    assert torch.equal(model.state_dict()["fc.weight"], good["fc.weight"])


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_overflows_in_the_models_type_is_refused_and_the_model_unchanged(tmp_path: Path, name: str) -> None:
    good = state()
    large = {**good, "fc.bias": torch.tensor([0.0, 1e300, -1.0], dtype=torch.float64)}
    with pytest.raises(ModelError, match=r"fc\.bias has values up to 1e\+300, which the model's float32 cannot hold"):
        loaded(tmp_path / name, large)
    # A mask may be infinite in the file; it may not become so.
    large = {**good, "mask": torch.full((3,), torch.finfo(torch.float64).min, dtype=torch.float64)}
    with pytest.raises(ModelError, match=r"mask has values up to 1\.8e\+308"):
        loaded(tmp_path / name, large)
    infinite = {**good, "mask": good["mask"].double()}
    assert torch.equal(loaded(tmp_path / name, infinite).state_dict()["mask"], good["mask"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_other_floats_are_cast(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    good = state()
    other = {key: one.to(dtype) if one.is_floating_point() else one.to(torch.int16) for key, one in good.items()}
    found = loaded(tmp_path / name, other).state_dict()
    assert torch.equal(found["fc.weight"], good["fc.weight"].to(dtype).float())
    assert torch.equal(found["index"], good["index"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_that_are_not_finite_are_refused_in_every_type(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    bad = state()
    bad["fc.weight"][1, 2] = value
    bad["fc.weight"] = bad["fc.weight"].to(dtype)
    mending = "save it as float32" if dtype == torch.float16 else "Take the weights of an epoch before"
    with pytest.raises(ModelError, match=rf"w\.pt: fc\.weight has values that are not finite; .*{mending}"):
        loaded(tmp_path / "w.pt", bad)


@pytest.mark.parametrize("index", [torch.tensor([0.0, 1.5, 2.0]), torch.tensor([0, 1, 2**63], dtype=torch.uint64)])
def test_whole_numbers_that_would_change_are_refused(tmp_path: Path, index: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"index is (float32|uint64) with values that the model's int64 cannot hold"):
        loaded(tmp_path / "w.pt", {**state(), "index": index})
    model = loaded(tmp_path / "w.pt", {**state(), "index": torch.tensor([2.0, 1.0, 0.0])})
    assert model.state_dict()["index"].tolist() == [2, 1, 0]


def test_views_and_shared_memory_are_copied(tmp_path: Path) -> None:
    shared = torch.arange(24.0).reshape(6, 4)
    views = {**state(), "fc.weight": shared[1::2], "fc.bias": shared.t()[0, :3], "mask": torch.zeros(1).expand(3)}
    model = loaded(tmp_path / "w.pt", views)
    assert torch.equal(model.state_dict()["fc.weight"], shared[1::2])
    assert model.state_dict()["mask"].tolist() == [0, 0, 0]


def test_a_view_of_more_numbers_than_memory_takes_is_only_counted(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(10**6, 10**6)
    sets = {"state_dict": {**state(), "beside": huge}, "model": {**state(), "beside": huge}}
    with pytest.raises(ModelError, match="1 unexpected: beside"):
        loaded(tmp_path / "w.pt", sets)
    with pytest.raises(ModelError, match=r"fc\.bias \(is \(1000000, 1000000\), expected \(3,\)\)"):
        loaded(tmp_path / "w.pt", {**state(), "fc.bias": huge})


def test_tensors_without_names_are_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"its tensors have no names: their keys are of type int"):
        loaded(tmp_path / "w.pt", dict(enumerate(state().values())))


def test_odd_names_are_cut_and_end(tmp_path: Path) -> None:
    odd = {"a." * 200_000: torch.zeros(1), "\u202e\x1b[2J": torch.zeros(1), "": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"4 missing: mask, .*3 unexpected") as caught:
        loaded(tmp_path / "w.pt", odd)
    assert len(str(caught.value)) < 1000


def test_mappings_that_hold_themselves_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "MOST_MAPPINGS", 1_000)
    monkeypatch.setattr(nested, "MOST_ENTRIES", 10_000)
    good: dict[str, Any] = dict(state())
    good["state_dict"] = good
    assert loaded(tmp_path / "w.pt", good).state_dict().keys() == state().keys()
    many: dict[str, Any] = {"a": torch.zeros(1)}
    many |= {f"again{number}": many for number in range(30)}
    with pytest.raises(ModelError, match="more than 1,000 mappings within one another"):
        loaded(tmp_path / "w.pt", many)
    endless: list[Any] = []
    endless += [endless] * 30
    found = loaded(tmp_path / "w.pt", {"state_dict": state(), "ema": endless})
    assert torch.equal(found.state_dict()["fc.weight"], state()["fc.weight"])


def test_two_sets_of_other_types_are_compared(tmp_path: Path) -> None:
    sets = {"state_dict": state(), "weights": {name: one.double() for name, one in state().items()}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(loaded(tmp_path / "w.pt", sets).state_dict()["fc.weight"], state()["fc.weight"])


def safetensors(kind: str, shape: list[int], data: bytes) -> bytes:
    header = f'{{"fc.weight":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{len(data)}]}}}}'.encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"])
def test_types_of_safetensors_that_are_no_plain_numbers_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(kind, [3, 4], bytes(6 if kind == "F4" else 12)))
    with pytest.raises(ModelError, match=rf"w\.safetensors: .*(float8|float4|{kind})"):
        load_foreign_weights(Masked(), path)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "torchscript": (lambda p: torch.jit.script(nn.Linear(2, 2)).save(str(p)), "a TorchScript program, not weights"),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.ones(3)), r"arrays of NumPy \(npz\), no file of torch weights"),
    "hdf5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "an HDF5 file, as Keras writes it"),
    "gguf": (lambda p: p.write_bytes(b"GGUF" + bytes(90)), "a GGUF file"),
    "index": (lambda p: p.write_text('{"weight_map": {}}'), "JSON, such as the index of weights in several files"),
    "gzip": (lambda p: p.write_bytes(b"\x1f\x8b" + bytes(90)), "packed with gzip"),
}


@pytest.mark.parametrize("form", OTHERS)
@pytest.mark.filterwarnings("ignore")
def test_files_of_other_programs_are_told_by_their_content(tmp_path: Path, form: str) -> None:
    write, message = OTHERS[form]
    write(tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message):
        load_foreign_weights(Masked(), tmp_path / "w.pt")
