"""A small network through the real converter and the real quantizer, once for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # it imports torch, which quick sessions do without
    from tests.unit.converted_net import Converted


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The network, converted and quantized."""
    from edgecompress.quantization.structure.structure import quantized_structure
    from edgecompress.tflite.format.convert import convert
    from tests.unit.converted_net import INPUT_SHAPE, Converted, every_kind

    module = every_kind()
    path = tmp_path_factory.mktemp("converted") / "float.tflite"
    convert(module, INPUT_SHAPE, path)
    return Converted(module, path, quantized_structure(path.read_bytes()))


@pytest.fixture(scope="session")
def int8_file(converted: Converted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibrated INT8 flatbuffer as it is shipped."""
    from tests.unit.converted_net import images, shipped

    twin = converted.twin()
    twin.calibrate([images(64)])
    path = tmp_path_factory.mktemp("shipped") / "int8.tflite"
    path.write_bytes(shipped(converted, twin)[0])
    return path
