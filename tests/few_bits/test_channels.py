"""Oracle: whatever the scale of free channels, the outputs of the model stay as they are."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tfprune.few_bits.channels import read_channels

L = keras.layers
RNG = np.random.default_rng(0)


def image() -> Any:
    return keras.Input((8, 8, 3))


def chain() -> Any:
    x = image()
    h = L.Conv2D(4, 3, activation="relu")(x)
    h = L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(h)
    h = L.ReLU()(L.BatchNormalization()(h))
    h = L.MaxPooling2D()(L.ZeroPadding2D()(h))
    return keras.Model(x, L.Dense(2)(L.Flatten()(h)))


def residual() -> Any:
    x = image()
    h = L.Conv2D(4, 3, padding="same")(x)
    inner = L.Conv2D(6, 1, activation="relu")(L.ReLU()(L.BatchNormalization()(h)))
    h = L.Add()([h, L.Conv2D(4, 1)(inner)])
    h = h + L.Conv2D(4, 3, padding="same")(L.LeakyReLU()(h))
    return keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(h)))


def branches() -> Any:
    x = image()
    a, b = (L.Conv2D(n, 1, activation="relu")(x) for n in (3, 5))
    shared = L.Conv2D(2, 3, activation="relu")
    h = L.Concatenate()([a, b])
    both = L.Add()([shared(h), shared(L.Dropout(0.5)(h))])
    return keras.Model(x, L.Conv2D(2, 1)(both))


def attention() -> Any:
    x = keras.Input((5, 6))
    h = L.LayerNormalization()(x)
    h = x + L.MultiHeadAttention(2, 3)(h, h)
    wide = L.Dense(8, activation="relu")(L.LayerNormalization()(h))
    h = h + L.Dense(6)(wide)
    return keras.Model(x, L.Dense(2)(L.LayerNormalization()(h)))


def with_random_weights(build: Callable[[], Any]) -> Any:
    keras.utils.set_random_seed(0)
    model = build()
    for variable in model.variables:
        if len(variable.shape) == 1:
            variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return model


def rescale(model: Any) -> tuple[int, int]:
    """Scale all free channels at random, and check that the outputs stay.

    Returns the number of free classes, and of the weights that changed.
    """
    x = RNG.standard_normal((4, *model.input_shape[1:])).astype("float32")
    wanted = model(x, training=False).numpy()
    channels = read_channels(model)
    root, may = channels.classes()
    before = [variable.numpy() for variable in model.weights]
    scales = np.exp(RNG.uniform(-2, 2, channels.size))[root]
    for variable, value in channels.scaled(np.where(may[root], scales, 1.0)):
        variable.assign(value)
    found = model(x, training=False).numpy()
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    changed = sum(not np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))
    return len(set(root[may[root]])), changed


@pytest.mark.parametrize(
    ("build", "free"), [(chain, 12), (residual, 14), (branches, 10), (attention, 32)]
)
def test_free_channels_may_have_any_scale(build: Callable[[], Any], free: int) -> None:
    found, changed = rescale(with_random_weights(build))
    assert found == free
    assert changed >= 4


def fixed(layer: Any, shape: tuple[int, ...] = (8, 8, 3)) -> int:
    """Return how many classes are free in a model with a layer between two others."""
    x = keras.Input(shape)
    h = layer(L.Conv2D(4, 1)(x) if len(shape) == 3 else L.Dense(4)(x))
    channels = read_channels(keras.Model(x, L.Dense(2)(h)))
    root, may = channels.classes()
    return len(set(root[may[root]]))


@pytest.mark.parametrize(
    "layer",
    [
        L.ReLU(6.0),
        L.ReLU(threshold=0.1),
        L.Activation("tanh"),
        L.Conv2D(4, 1, groups=2, activation="gelu"),
        L.UnitNormalization(),
        lambda h: h * h,
        lambda h: h + 1.0,
        lambda h: keras.ops.relu6(h),
    ],
    ids=["ReLU6", "threshold", "tanh", "groups", "unit length", "square", "plus 1", "relu6"],
)
def test_other_operations_keep_their_scale(layer: Any) -> None:
    assert fixed(layer) == 0


def test_what_lets_a_scale_pass() -> None:
    assert fixed(L.ReLU()) == fixed(L.Activation("relu")) == fixed(L.Identity()) == 4
    assert fixed(keras.ops.relu) == 4


def test_inputs_outputs_and_tied_weights_keep_their_scale() -> None:
    x = keras.Input((4,))
    h = L.Dense(4)(x)
    channels = read_channels(keras.Model(x, [h, L.Dense(2)(h)]))
    assert not channels.classes()[1].any()

    class Tied(L.Layer):
        def __init__(self, dense: Any) -> None:
            super().__init__()
            self.dense = dense

        def call(self, x: Any) -> Any:
            return keras.ops.tanh(keras.ops.matmul(x, keras.ops.transpose(self.dense.kernel)))

    dense = L.Dense(4, activation="relu")
    assert rescale(keras.Model(x, L.Dense(2)(Tied(dense)(L.Dense(4)(dense(x)))))) == (0, 0)


@pytest.mark.parametrize(
    "between",
    [
        L.Flatten(data_format="channels_first"),
        L.GlobalAveragePooling2D(data_format="channels_first"),
        L.MaxPooling2D(2, strides=1, padding="same", data_format="channels_first"),
    ],
)
def test_channels_that_are_not_last_keep_their_scale(between: Any) -> None:
    x = keras.Input((6, 6, 6))
    h = L.Dense(6, activation="relu")(x)
    channels = read_channels(keras.Model(x, L.Dense(2)(between(h))))
    root, free = channels.classes()
    assert not free[root[:6]].any()


def test_a_kernel_with_lora_keeps_its_scale() -> None:
    x, first = keras.Input((4,)), L.Dense(6, activation="relu")
    model = keras.Model(x, L.Dense(2)(first(x)))
    first.enable_lora(2)
    assert all(touch.variable is not first.bias for touch in read_channels(model).touches)
    assert read_channels(model).scaled(np.full(2, 2.0))
