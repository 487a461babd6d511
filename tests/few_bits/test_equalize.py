from typing import Any

import keras
import numpy as np

from tfprune.few_bits.equalize import equalize

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 8, 8, 3)).astype("float32")


def assign(variable: Any, value: Any) -> None:
    variable.assign(value)


def uneven() -> Any:
    """Return a net whose channels have ranges that are far apart."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    h = L.BatchNormalization(name="norm")(L.Conv2D(6, 3, use_bias=False)(x))
    h = L.DepthwiseConv2D(3, activation="relu", name="depthwise")(L.ReLU(name="relu")(h))
    model = keras.Model(x, L.Dense(5, name="head")(L.GlobalAveragePooling2D(name="mean")(h)))
    model.get_layer("norm").gamma.assign([0.1, 0.2, 1.0, 2.0, 4.0, 10.0])
    return model


def ranges(model: Any, name: str) -> Any:
    inner = keras.Model(model.input, model.get_layer(name).output)
    return np.abs(inner(X, training=False).numpy()).max(axis=(0, 1, 2))


def spread(model: Any) -> float:
    """Return how unlike the ranges of inputs and weights of the head are, channel by channel."""
    inner = keras.Model(model.input, model.get_layer("mean").output)
    kernel = np.abs(model.get_layer("head").kernel.numpy())
    shares = (kernel / kernel.max(axis=0)).max(axis=1)
    return float(np.log(np.abs(inner(X).numpy()).max(axis=0) / shares).std())


def test_ranges_become_alike_and_outputs_stay() -> None:
    model = uneven()
    wanted = model(X, training=False).numpy()
    before, apart = ranges(model, "relu"), spread(model)
    assert equalize(model, [X[:20], X[20:]], assign) == 2
    found = model(X, training=False).numpy()
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    after = ranges(model, "relu")
    assert before.max() > 30 * before.min()
    assert np.allclose(after, after[0], rtol=0.02)  # A depthwise kernel takes all of it …
    assert spread(model) < 0.3 * apart  # … a product a part.


def test_dead_channels_are_left_finite() -> None:
    model = uneven()
    model.get_layer("norm").gamma.assign([0.0, 0.1, 1.0, 3.0, 10.0, 30.0])
    model.get_layer("norm").beta.assign([-1.0, 0, 0, 0, 0, 0])
    wanted = model(X, training=False).numpy()
    equalize(model, [X], assign)
    assert all(np.isfinite(value).all() for value in model.get_weights())
    found = model(X, training=False).numpy()
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_nothing_to_equalize() -> None:
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    assert equalize(model, [np.ones((4, 3), "float32")], assign) == 0
