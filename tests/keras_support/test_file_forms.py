"""Operations of Keras in a form that files can have."""

import keras
import numpy as np
import pytest

from tfprune.keras_support.file_forms import file_forms

L = keras.layers.LayerNormalization


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L(beta_initializer="ones"), (4, 1)),
        (L(axis=[1, 2], beta_initializer="ones"), (1, 1)),
        (L(center=False), (4, 1)),
        (L(scale=False), (4, 1)),
        (L(beta_initializer="ones"), (4, 3)),
        (L(axis=[1, 2]), (4, 1)),
    ],
)
def test_a_norm_is_that_of_keras(layer, shape):
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype("float32")
    expected = np.array(layer(x))
    with file_forms():
        np.testing.assert_allclose(np.array(layer(x)), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["fft", "fft2", "ifft2"])
def test_a_fourier_transform_is_that_of_keras(name):
    parts = np.random.default_rng(0).normal(size=(2, 3, 6, 10)).astype("float32")
    transform = getattr(keras.ops, name)
    expected = transform(tuple(parts))
    with file_forms():
        for got, wanted in zip(transform(tuple(parts)), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_zeros_of_an_open_batch_are_those_of_keras():
    with file_forms():
        assert keras.ops.zeros_like(keras.Input((4,))).shape == (None, 4)
        made = keras.ops.zeros_like(keras.ops.ones((2, 3)), dtype="float16")
        assert keras.backend.standardize_dtype(made.dtype) == "float16"
        assert not np.array(made).any()
        assert keras.ops.zeros_like(keras.ops.ones((2,), "int32")).dtype == "int32"
