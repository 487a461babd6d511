"""Small models and data for the tests of sparsity."""

import keras
import numpy as np
import pytest


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((64, 12)).astype("float32"), rng.integers(0, 3, 64)


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((12,))
    h = keras.layers.Dense(20, activation="relu", name="hidden")(x)
    h = keras.layers.BatchNormalization(name="norm")(h)
    return keras.Model(x, keras.layers.Dense(3, name="head")(h), name="small")
