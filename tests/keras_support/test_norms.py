"""Normalization over a single number."""

import keras
import numpy as np
import pytest

from tfprune.keras_support.norms import exact_norms
from tfprune.keras_support.thread_replacements import replaced

L = keras.layers.LayerNormalization


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L(beta_initializer="ones"), (4, 1)),
        (L(axis=[1, 2], beta_initializer="ones"), (1, 1)),
        (L(center=False), (4, 1)),
        (L(beta_initializer="ones"), (4, 3)),
        (L(axis=[1, 2]), (4, 1)),
    ],
)
def test_the_result_is_that_of_keras(layer, shape):
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype("float32")
    expected = np.array(layer(x))
    with replaced(L, "call", exact_norms):
        np.testing.assert_allclose(np.array(layer(x)), expected, atol=1e-6)
