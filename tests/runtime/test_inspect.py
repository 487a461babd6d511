"""The contents of a file."""

import keras
import numpy as np
import pytest

from tests.runtime.mutations import mutations
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ArtifactError
from tfprune.runtime.inspect import inspect

L = keras.layers


@pytest.fixture(scope="module")
def half_empty() -> keras.Model:
    """A Dense layer of 64×32 weights, of which every second is 0 and none is small."""
    model = keras.Sequential([keras.Input((64,)), L.Dense(32, use_bias=False)])
    kernel = np.where(np.arange(64 * 32).reshape(64, 32) % 2, 1.0, 0.0)
    model.set_weights([kernel * np.linspace(1, 2, 32)])
    return model


@pytest.mark.parametrize(("scheme", "item"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_bytes_and_zeros_of_a_constant(half_empty, scheme, item):
    data = np.random.default_rng(0).normal(size=(20, 64))
    found = inspect(to_tflite(half_empty, scheme=scheme, calibration=data))
    row = found.tensors[0]

    assert row.shape == (32, 64)
    assert row.bytes == 32 * 64 * item
    assert (row.elements, row.zeros) == (32 * 64, 32 * 64 // 2)
    assert row.used_by == (("DEQUANTIZE",) if scheme == "float16" else ("FULLY_CONNECTED",))


def test_the_parts_add_up_to_the_file(int8_file):
    found = inspect(int8_file)
    parts = found.weights_bytes + found.scales_bytes + found.metadata_bytes + found.structure_bytes
    assert parts == found.raw_bytes == len(int8_file.bytes)
    # 512×4 and 3×3×8 weights of one byte, 8 biases of four: the rest is shape constants.
    assert 0 <= found.weights_bytes - (2048 + 72 + 32) < 64
    assert found.outside_bytes == 0


def test_types_of_operations(int8_file, float_file):
    assert {op.name: op.inputs for op in inspect(int8_file).ops}["CONV_2D"] == ("int8",)
    assert {op.name: op.inputs for op in inspect(float_file).ops}["CONV_2D"] == ("float32",)
    assert inspect(int8_file).op_counts() == int8_file.report.ops


def test_the_text_has_operations_constants_and_sizes(int8_file):
    text = inspect(int8_file).to_text(most=1)
    assert f"{len(int8_file.bytes):,} bytes" in text
    assert "FULLY_CONNECTED  1" in text
    assert "4×512" in text
    assert "smaller ones" in text
    assert str(inspect(int8_file)).splitlines()[:2] == text.splitlines()[:2]


def test_errors_name_the_path(tmp_path):
    with pytest.raises(ArtifactError, match=r"gone.tflite: no such file"):
        inspect(tmp_path / "gone.tflite")
    with pytest.raises(ArtifactError, match=r"cannot be read \(Is a directory\)"):
        inspect(tmp_path)
    with pytest.raises(ArtifactError, match="expected an Artifact, bytes or the path"):
        inspect(3)


def test_mutated_files_end_in_one_error(int8_file):
    messages = []
    for copy in mutations(int8_file.bytes, 300, seed=1):
        try:
            assert inspect(copy).to_text()
        except ArtifactError as error:
            messages.append(str(error))
    assert 100 < len(messages) < 300
    assert not any("\n" in message for message in messages)
