import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.graph.tracing.symbolic_calls import accepted, as_symbol, calling_through, no_backend


class Both(keras.layers.Layer):
    """It gives what Keras cannot take from a symbolic call: nothing besides a tensor."""

    def build(self, shape):
        self.inner = kl.Dense(8, activation="relu", name="inner")
        self.inner.build(shape)

    def call(self, x, scores=False):
        return self.inner(x), None


class Outer(keras.layers.Layer):
    """A layer of a layer that cannot be called symbolically."""

    def build(self, shape):
        self.both, self.out = Both(name="both"), kl.Dense(4, name="out")
        self.both.build(shape)
        self.both.built = True
        self.out.build((*shape[:-1], 8))

    def call(self, x):
        return self.out(self.both(x)[0])

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape[:-1], 4), dtype=self.compute_dtype)


def net():
    inputs = keras.Input((5,))
    return keras.Model(inputs, kl.Dense(2)(Outer(name="outer")(inputs)))


def test_what_keras_cannot_call_is_walked_through(check, sizes) -> None:
    assert sizes(net()) == {"inner": 8, "out": 4}
    check(net())


def test_under_mixed_precision_too(sizes) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = net()
    finally:
        keras.config.set_dtype_policy("float32")
    assert sizes(model) == {"inner": 8, "out": 4}
    _, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-4


def test_an_error_of_a_single_layer_stays_an_error_and_keras_is_left_as_it_was() -> None:
    plain = keras.Layer.__call__
    with pytest.raises(ValueError, match="incompatible"), calling_through():
        kl.Conv2D(2, 3)(keras.Input((4,)))
    assert keras.Layer.__call__ is plain


def test_only_what_a_call_takes_is_given_to_it() -> None:
    given = {"x": 1, "training": True, "scores": False}
    assert accepted(Both(), given) == {"x": 1, "scores": False}
    assert accepted(kl.Dropout(0.1), {"training": True}) == {"training": True}


class Inner(keras.layers.Layer):
    """A dense layer, to be used by a `call`; its subclasses are called by a decoder."""

    def build(self, shape):
        self.up, self.down = kl.Dense(8, name="up"), kl.Dense(shape[-1], name="down")
        self.up.build(shape)
        self.down.build((*shape[:-1], 8))

    def mixed(self, x):
        return self.down(ops.relu(self.up(x)))


class Banded(Inner):
    """It calls functions of TensorFlow, if that is the backend."""

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        length = ops.shape(x)[1]
        ones = ops.ones((length, length), "bool")
        if keras.config.backend() == "tensorflow":
            band = tf.linalg.band_part(ones, 1, 1)
        else:
            band = ops.triu(ones, -1) * ops.tril(ones, 1)
        return ops.matmul(ops.cast(band, x.dtype), self.mixed(x))


class WithConstant(Inner):
    """It gives a tensor that does not depend on its input, and nothing in the place of one."""

    def compute_output_spec(self, x):
        return [keras.KerasTensor(shape, x.dtype) for shape in (x.shape, (6,), x.shape)]

    def call(self, x):
        return [self.mixed(x), ops.arange(6, dtype="float32"), None]


class ReadsBoth(keras.layers.Layer):
    def call(self, x, y, bonus=None):
        return x * y if bonus is None else x * y + bonus


class Rotary(keras.layers.Layer):
    """Its output shape is that of one tensor, though it gives two."""

    def compute_output_shape(self, shape):
        return shape[0]

    def call(self, both):
        return [-one for one in both]


class Rotating(Inner):
    def build(self, shape):
        super().build(shape)
        self.rotary = Rotary(name="rotary")
        self.rotary.build([shape, shape])

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        a, b = self.rotary([x, self.mixed(x)])
        return a * b


def around(layer):
    inputs = keras.Input((None, 6))
    x = layer(kl.Dense(6, name="embed")(inputs))
    if isinstance(x, tuple | list):
        x = ReadsBoth(name="both")(*x)
    return keras.Model(inputs, kl.Dense(2)(x))


@pytest.mark.parametrize("kind", [Banded, WithConstant, Rotating])
def test_calls_that_symbols_cannot_take_as_they_are_are_unrolled(kind, check, sizes) -> None:
    model = around(kind(name="block"))
    assert not [note for note in tfprune.units(model).graph.notes if "kept whole" in note]
    assert sizes(model)["up"] == 8
    small, _ = check(model)
    data = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    assert small(data).shape == model(data).shape == (2, 5, 2)


def test_code_that_asks_sees_another_backend_only_while_entered() -> None:
    x = keras.Input((3,), dtype="bool")
    with no_backend():
        assert keras.config.backend() == keras.backend.backend() == "numpy"
        both = keras.Model(x, [x * x, ops.multiply(x, x)])
    assert keras.config.backend() == keras.backend.backend() == "tensorflow"
    for one in both(np.array([[True, False, True]])):
        np.testing.assert_array_equal(one, [[True, False, True]])


@pytest.mark.parametrize("constant", [np.arange(3), np.array([True, False]), 2.5, [1, 2]])
def test_a_constant_becomes_symbolic(constant) -> None:
    x = keras.Input((3,))
    np.testing.assert_array_equal(keras.Model(x, as_symbol(x, constant))(np.ones((1, 3))), constant)
    assert as_symbol(x, x) is x
