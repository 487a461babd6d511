import keras
import pytest
from keras import layers as kl

import tfprune
from tfprune.graph.symbolic_calls import accepted, calling_through


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
