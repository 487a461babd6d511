"""Why a file disagrees with its model though its operations are right."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

import tfprune
from tfprune.deploy.verify.causes import batch_matters, rounding_matters
from tfprune.errors import ConversionError
from tfprune.graph.model_signature import interface


def deep(layers: int) -> keras.Model:
    """Return a network whose random weights multiply small differences, layer by layer."""
    keras.utils.set_random_seed(0)
    large = keras.initializers.RandomNormal(stddev=0.5, seed=1)
    hidden = [keras.layers.Dense(32, "tanh", kernel_initializer=large) for _ in range(layers)]
    return keras.Sequential([keras.Input((8,), name="x"), *hidden])


SAMPLES = {"x": np.random.default_rng(0).normal(size=(32, 8)).astype("float32")}


def test_noise_that_a_model_multiplies_is_told() -> None:
    assert "changes the model's outputs" in rounding_matters(interface(deep(12)), SAMPLES, 0.2)
    assert rounding_matters(interface(deep(1)), SAMPLES, 0.2) == ""


def test_tokens_are_not_rounded() -> None:
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(9, 2)])
    face = interface(model)
    tokens = {face.inputs[0].name: np.zeros((2, 4), "int32")}
    assert rounding_matters(face, tokens, 0.1) == ""


def test_a_model_that_no_int8_file_can_follow_is_refused_by_that_reason() -> None:
    with pytest.raises(ConversionError, match="noise of half a step of 8 bits on its own tensors"):
        tfprune.to_tflite(deep(12), scheme="int8", calibration=SAMPLES["x"])


def test_a_model_that_mixes_its_batch_is_told() -> None:
    inputs = keras.Input((3,), name="x")
    mixed = keras.Model(inputs, inputs - keras.ops.mean(inputs, axis=0, keepdims=True))
    samples = {"x": np.arange(6, dtype="float32").reshape(2, 3)}
    expected = {mixed.output_names[0]: np.float32([[-1.5] * 3, [1.5] * 3])}
    assert "batch=" in batch_matters(interface(mixed), samples, expected)


class Drawn(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, inputs: Any) -> Any:
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seed)


def test_what_a_model_draws_is_no_noise_of_rounding() -> None:
    model = keras.Sequential([keras.Input((8,), name="x"), keras.layers.Dense(4), Drawn()])
    face = replace(interface(model), mean_draws=True)
    before = [variable.numpy() for variable in model.variables]
    assert rounding_matters(face, SAMPLES, 0.2) == ""
    after = [variable.numpy() for variable in model.variables]
    assert all(map(np.array_equal, before, after))
