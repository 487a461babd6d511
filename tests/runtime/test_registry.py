"""The runtime of a file, and its format check."""

import numpy as np
import pytest

from tfprune.errors import ArtifactError
from tfprune.runtime.artifact import TensorSpec
from tfprune.runtime.registry import noise, of_ending, read_any, runtimes


def test_the_runtime_is_chosen_by_name_and_then_by_content(float_file, onnx_file, tmp_path) -> None:
    assert read_any(float_file)[1] is runtimes["litert"]
    assert read_any(float_file.bytes)[1] is runtimes["litert"]
    assert read_any(onnx_file.bytes)[1] is runtimes["onnx"]
    saved = onnx_file.save(tmp_path / "model.onnx")
    assert read_any(saved) == (onnx_file.bytes, runtimes["onnx"])
    assert read_any(str(saved.path))[1] is runtimes["onnx"]
    wrong = tmp_path / "model.tflite"
    wrong.write_bytes(onnx_file.bytes)
    with pytest.raises(ArtifactError, match=r"model\.tflite"):
        read_any(wrong)


def test_litert_is_chosen_for_an_unknown_ending(tmp_path) -> None:
    assert of_ending(tmp_path / "a.onnx") is runtimes["onnx"]
    assert of_ending(tmp_path / "a.bin") is runtimes["litert"]


def test_whole_numbers_are_zeros_since_they_may_be_indexes() -> None:
    random = np.random.default_rng(0)
    assert noise(TensorSpec("x", (-1, 3), "float32"), (1, 3), random).std() > 0
    assert noise(TensorSpec("x", (-1, 3), "int8", 0.1), (1, 3), random).std() > 0
    ids = noise(TensorSpec("x", (-1, 3), "int32"), (1, 3), random)
    assert (ids.dtype, ids.tolist()) == (np.int32, [[0, 0, 0]])
