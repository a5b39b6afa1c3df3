"""The memory tflite-micro takes, and how its failures are told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecompress.errors import ModelError, ResourceError
from edgecompress.tflite.runtime.arena import measure_arena
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "made.tflite"
    path.write_bytes(content)
    return path


def relus(width: int, count: int = 2) -> bytes:
    tensors = [int8(1, width, zero_point=0) for _ in range(count + 1)]
    return make_bytes(tensors, [Op("RELU", (k,), (k + 1,)) for k in range(count)])


class TestMicro:
    """With tflite-micro itself."""

    @pytest.fixture(autouse=True)
    def micro(self) -> None:
        pytest.importorskip("tflite_micro")

    def test_figures_add_up_and_follow_the_activations(self, tmp_path: Path) -> None:
        small = measure_arena(written(tmp_path, relus(1000)), 1 << 20)
        large = measure_arena(written(tmp_path, relus(5000)), 1 << 20)
        for arena in (small, large):
            assert arena.arena_bytes == arena.activation_bytes + arena.persistent_bytes
        # Two activations are alive at once; each is rounded up to 16 bytes.
        assert small.activation_bytes == 2 * 1008
        assert large.activation_bytes == 2 * 5008
        assert large.persistent_bytes == small.persistent_bytes

    def test_activations_share_their_memory(self, tmp_path: Path) -> None:
        two = measure_arena(written(tmp_path, relus(1000, 2)), 1 << 20)
        six = measure_arena(written(tmp_path, relus(1000, 6)), 1 << 20)
        assert six.activation_bytes == two.activation_bytes
        assert six.persistent_bytes > two.persistent_bytes

    def test_weights_stay_in_the_file(self, tmp_path: Path) -> None:
        tensors = [int8(1, 64), constant(np.ones((64, 64)), "int8", scale=(0.01,)), int8(1, 64)]
        arena = measure_arena(
            written(tmp_path, make_bytes(tensors, [Op("FULLY_CONNECTED", (0, 1, -1), (2,))])), 1 << 20
        )
        assert arena.arena_bytes < 64 * 64

    def test_an_arena_too_small_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"tflite-micro cannot run it: .*(arena|allocate|memory)"):
            measure_arena(written(tmp_path, relus(5000)), 1 << 10)

    def test_an_operator_it_does_not_have_is_named(self, tmp_path: Path) -> None:
        tensors = [int8(1, 4), int8(1, 4)]
        path = written(tmp_path, make_bytes(tensors, [Op("CUSTOM", (0,), (1,), custom="Whirl")]))
        with pytest.raises(ModelError, match=r"tflite-micro cannot run it: .*CUSTOM"):
            measure_arena(path, 1 << 20)

    def test_descriptor_two_comes_back(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        measure_arena(written(tmp_path, relus(10)), 1 << 20)
        os.write(2, b"still here\n")
        captured = capfd.readouterr()
        assert captured.err == "still here\n"

    def test_several_inputs_are_all_set(self, tmp_path: Path) -> None:
        tensors = [Made((1, 4), "float32"), Made((1, 4), "float32"), Made((1, 4), "float32")]
        path = written(tmp_path, make_bytes(tensors, [Op("ADD", (0, 1), (2,))], inputs=(0, 1)))
        assert measure_arena(path, 1 << 20).activation_bytes == 3 * 16


def test_without_tflite_micro_the_way_to_get_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro", None)
    with pytest.raises(ResourceError, match=r"tflite-micro is not installed .*pip install tflite-micro"):
        measure_arena(written(tmp_path, relus(10)), 1 << 20)
