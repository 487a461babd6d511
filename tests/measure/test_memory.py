"""Peak memory: a large file weighs more than a small one, about what it holds."""

import keras
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ArtifactError
from tfprune.measure.memory import peak_bytes


def test_a_larger_file_takes_as_much_more_memory_as_it_has_more_weights(float_file) -> None:
    keras.utils.set_random_seed(0)
    large = keras.Sequential([keras.Input((1024,)), keras.layers.Dense(4096, use_bias=False)])
    weights_bytes = 4 * 1024 * 4096
    grown = peak_bytes(to_tflite(large)) - peak_bytes(float_file)
    assert 0.9 * weights_bytes < grown < 4 * weights_bytes


def test_a_file_that_is_none_is_one_line(tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.tflite: no such file"):
        peak_bytes(tmp_path / "none.tflite")
