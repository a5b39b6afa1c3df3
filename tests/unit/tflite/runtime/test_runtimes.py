"""The runtimes compute the same, and real numbers find their way in and out of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import ModelError, ResourceError
from edgecompress.tflite.runtime.runtimes import RUNTIMES, InterpreterRuntime
from edgecompress.tflite.runtime.session import Session, TensorDetails, dequantize_output, quantize_input
from tests.unit.converted_net import Converted, images
from tests.unit.made_flatbuffer import Made, Op, constant, int8, int8_classifier, make_bytes


@pytest.fixture(scope="module")
def litert(int8_file: Path) -> Session:
    return RUNTIMES["litert"].session(int8_file)


def raw_images(count: int, details: TensorDetails, seed: int = 0) -> np.ndarray:
    return quantize_input(images(count, seed).permute(0, 2, 3, 1).numpy(), details)


def test_a_session_describes_its_ends(litert: Session) -> None:
    assert litert.input.shape == (1, 12, 12, 3)
    assert litert.input.dtype == np.int8
    assert litert.input.quantized
    assert litert.output.shape == (1, 5)
    assert (litert.input.name, litert.output.name) == ("input", "output")


def test_both_runtimes_agree_within_one_step_over_one_layer(tmp_path: Path) -> None:
    path = tmp_path / "one.tflite"
    tensors, ops = int8_classifier()
    path.write_bytes(make_bytes(tensors[:4], ops[:1]))
    inputs = np.random.default_rng(0).integers(-128, 128, (64, 6, 6, 2)).astype(np.int8)
    mine, theirs = (RUNTIMES[name].session(path).run(inputs).astype(int) for name in ("litert", "tensorflow"))
    assert mine.shape == (64, 6, 6, 4)
    assert np.abs(mine - theirs).max() <= 1
    assert len(np.unique(mine)) > 10  # not a constant


def test_both_runtimes_agree_within_two_steps_over_many(litert: Session, int8_file: Path) -> None:
    """Roundings that fall otherwise in one layer are carried on by the next ones."""
    inputs = raw_images(32, litert.input)
    mine = litert.run(inputs).astype(int)
    theirs = RUNTIMES["tensorflow"].session(int8_file).run(inputs).astype(int)
    assert np.abs(mine - theirs).max() <= 2
    assert np.abs(mine - theirs).mean() < 1
    assert np.ptp(mine) > 200


def test_threads_change_nothing(litert: Session, int8_file: Path) -> None:
    inputs = raw_images(8, litert.input)
    np.testing.assert_array_equal(RUNTIMES["litert"].session(int8_file, threads=2).run(inputs), litert.run(inputs))


def test_a_float_session_equals_the_module(converted: Converted) -> None:
    session = RUNTIMES["litert"].session(converted.floating)
    x = images(4, seed=2)
    outputs = session.run(x.permute(0, 2, 3, 1).contiguous().numpy())
    assert not session.input.quantized
    with torch.no_grad():
        np.testing.assert_allclose(outputs, converted.module(x).numpy(), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 12, 12, 1), (2, 12, 12), (12, 12, 3)])
def test_samples_of_another_shape_are_refused(litert: Session, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"its input is int8\[1, 12, 12, 3\]"):
        litert.run(np.zeros(shape, np.int8))


def test_samples_of_another_type_are_refused(litert: Session) -> None:
    with pytest.raises(ModelError, match=r"float32.*do not fit"):
        litert.run(np.zeros((1, 12, 12, 3), np.float32))


def test_no_samples_give_no_outputs(litert: Session) -> None:
    assert litert.run(np.zeros((0, 12, 12, 3), np.int8)).shape == (0, 5)


def session_on(tmp_path: Path, content: bytes, runtime: str = "litert") -> Session:
    path = tmp_path / "made.tflite"
    path.write_bytes(content)
    return RUNTIMES[runtime].session(path)


def test_random_inputs_are_the_same_each_time_and_use_the_whole_range(litert: Session) -> None:
    litert.fill(0)
    litert.invoke()
    interpreter, number = litert._interpreter, litert._input_numbers[0]
    first = interpreter.get_tensor(number)
    assert first.min() < -120
    assert first.max() > 120
    litert.fill(1)
    assert not np.array_equal(interpreter.get_tensor(number), first)
    litert.fill(0)
    np.testing.assert_array_equal(interpreter.get_tensor(number), first)


def test_token_numbers_are_filled_with_zero_and_floats_with_a_normal(tmp_path: Path) -> None:
    table = constant(np.arange(6).reshape(2, 3), "float32")
    tensors = [Made((1, 40), "float32"), Made((2,), "int32"), table, Made((2, 3)), Made((1, 40))]
    ops = [Op("EMBEDDING_LOOKUP", (1, 2), (3,)), Op("RELU", (0,), (4,))]
    session = session_on(tmp_path, make_bytes(tensors, ops, inputs=(0, 1), outputs=(3, 4)))
    session.fill(0)
    session.invoke()
    reals, numbers = (session._interpreter.get_tensor(n) for n in session._input_numbers)
    assert numbers.tolist() == [0, 0]
    assert 0.5 < reals.std() < 1.5
    with pytest.raises(ModelError, match="it has 2 inputs; a model with one input was expected"):
        _ = session.input
    assert session.output.shape == (2, 3)  # the first one is what is scored


def test_what_a_runtime_cannot_do_is_an_error_with_its_reason(tmp_path: Path) -> None:
    content = make_bytes([int8(1, 4), int8(1, 4)], [Op("CUSTOM", (0,), (1,), custom="Whirl")])
    with pytest.raises(ModelError, match=r"made\.tflite: litert cannot run it: .*Whirl"):
        session_on(tmp_path, content)
    with pytest.raises(ModelError, match="litert cannot run it"):
        session_on(tmp_path, b"no flatbuffer at all")
    with pytest.raises(ModelError, match="litert cannot run it"):
        RUNTIMES["litert"].session(tmp_path / "gone.tflite")


def test_failures_while_running_are_errors_too(litert: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def set_tensor(self, *_args: object) -> None:
            raise ValueError("no such tensor")

        def get_tensor(self, *_args: object) -> None:
            raise AssertionError("nothing was set")

        def invoke(self) -> None:
            raise RuntimeError("division by zero\n  Node number 3 (DIV) failed to invoke.")

    monkeypatch.setattr(litert, "_interpreter", Broken())
    with pytest.raises(ModelError, match=r"division by zero; Node number 3 \(DIV\) failed to invoke"):
        litert.invoke()
    with pytest.raises(ModelError, match="no such tensor"):
        litert.fill(0)
    with pytest.raises(ModelError, match="no such tensor"):
        litert.run(np.zeros((1, 12, 12, 3), np.int8))


def test_a_runtime_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    runtime = InterpreterRuntime("other", "no_such_module_anywhere", "AUTO", "other-lite")
    with pytest.raises(ResourceError, match=r"the runtime other is not installed .*pip install other-lite"):
        runtime.session(tmp_path / "x.tflite")


def details(dtype: str, scale: float, zero_point: int) -> TensorDetails:
    return TensorDetails("x", (1, 8), np.dtype(dtype), scale, zero_point)


KINDS = st.sampled_from(["int8", "uint8", "int16"])


@given(kind=KINDS, scale=st.floats(1e-5, 1e3), place=st.floats(0, 1), seed=st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_inside_the_range_the_error_is_at_most_half_a_step(kind: str, scale: float, place: float, seed: int) -> None:
    info = np.iinfo(kind)
    zero_point = int(info.min + place * (info.max - info.min))
    tensor = details(kind, scale, zero_point)
    low, high = (info.min - zero_point) * scale, (info.max - zero_point) * scale
    x = np.random.default_rng(seed).uniform(low, high, 50).astype(np.float32)
    back = dequantize_output(quantize_input(x, tensor), tensor)
    # float32 itself has 24 bits, which 16-bit steps come near.
    assert np.abs(back.astype(np.float64) - x).max() <= scale / 2 + 2**-22 * max(-low, high)


@given(kind=KINDS, scale=st.floats(1e-5, 1e3), place=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_outside_of_it_the_ends_are_taken(kind: str, scale: float, place: float) -> None:
    info = np.iinfo(kind)
    zero_point = int(info.min + place * (info.max - info.min))
    raw = quantize_input(np.array([-1e9, 1e9]), details(kind, scale, zero_point))
    assert raw.dtype == np.dtype(kind)
    assert raw.tolist() == [info.min, info.max]


@given(kind=KINDS, scale=st.floats(1e-5, 1e3), place=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_every_raw_value_comes_back(kind: str, scale: float, place: float) -> None:
    info = np.iinfo(kind)
    zero_point = int(info.min + place * (info.max - info.min))
    tensor = details(kind, scale, zero_point)
    raw = np.linspace(info.min, info.max, 256).round().astype(kind)
    np.testing.assert_array_equal(quantize_input(dequantize_output(raw, tensor), tensor), raw)


def test_halves_go_to_the_even_step() -> None:
    tensor = details("int8", 0.5, 1)
    assert quantize_input(np.array([0.25, 0.75, -0.25, 1.25]), tensor).tolist() == [1, 3, 1, 3]


def test_what_is_not_quantized_passes() -> None:
    real = details("float32", 0.0, 0)
    x = np.array([0.1, -3.0])
    assert quantize_input(x, real).tolist() == np.float32(x).tolist()
    assert dequantize_output(np.float32(x), real).tolist() == np.float32(x).tolist()
    tokens = details("int32", 0.0, 0)
    assert not tokens.quantized
    assert quantize_input(np.array([1.0, 2.0]), tokens).dtype == np.int32


def test_an_output_that_turns_out_to_be_empty_is_an_error_too(litert: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = raw_images(1, litert.input)
    monkeypatch.setattr(litert._interpreter, "get_tensor", lambda _number: np.zeros((0, 10), np.int8))
    with pytest.raises(ModelError, match="out of bounds"):
        litert.run(inputs)
