import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError
from tfprune.structure.groups.units import units
from tfprune.structure.proof.check_unrolling import check_unrolling


class Inner(keras.layers.Layer):
    """It does something else to numbers than to symbols."""

    def __init__(self, honest=False, **kwargs):
        super().__init__(**kwargs)
        self.honest = honest

    def build(self, shape):
        self.dense = kl.Dense(6, name="dense")
        self.dense.build(shape)

    def call(self, x):
        symbolic = isinstance(x, keras.KerasTensor)
        return self.dense(x) * (1.0 if symbolic or self.honest else 2.0)

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape[:-1], 6), dtype=x.dtype)


def net(**options):
    inputs = keras.Input((5,))
    return keras.Model(inputs, kl.Dense(2)(Inner(name="inner", **options)(inputs)))


def test_what_tracing_does_not_show_is_seen() -> None:
    with pytest.raises(ModelError, match="compute something else.*inner.*rules.register"):
        tfprune.shrink(net(), {"channels": 0.5}, round_to=1)


def test_what_it_shows_passes(check) -> None:
    check(net(honest=True))


class Masked(keras.layers.Layer):
    """It reads the mask that Keras carries along with a tensor."""

    def build(self, shape):
        self.supports_masking = True
        self.dense = kl.Dense(6, name="dense")
        self.dense.build(shape)

    def call(self, x, mask=None):
        x = self.dense(x)
        return x if mask is None else x * keras.ops.cast(mask, x.dtype)[..., None]


def test_masks_are_carried_into_what_is_unrolled(check) -> None:
    ids = keras.Input((5,), dtype="int32")
    x = Masked(name="masked")(kl.Embedding(7, 4, mask_zero=True)(ids))
    small, _ = check(keras.Model(ids, kl.Dense(2, use_bias=False)(x)))
    data = np.array([[1, 2, 3, 0, 0]], "int32")
    assert np.abs(np.asarray(small(data))[0, :3]).max() > 0
    np.testing.assert_array_equal(np.asarray(small(data))[0, 3:], 0)


class Fixed(keras.layers.Layer):
    """It does what it does for one length only."""

    def build(self, shape):
        self.dense = kl.Dense(6, name="dense")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x) + np.ones((5, 6), "float32")


def test_what_cannot_be_run_unrolled_is_said() -> None:
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, kl.Dense(2)(Fixed(name="fixed")(inputs)))
    with pytest.raises(ModelError, match="traced operations fail .*Pass input_shape=.*fixed"):
        tfprune.shrink(model, {"channels": 0.5}, round_to=1)
    _, report = tfprune.shrink(model, {"channels": 0.5}, round_to=1, input_shape=(5, 4))
    assert report.error <= 1e-4


def test_models_without_traces_are_not_run_twice() -> None:
    inputs = keras.Input((4,))
    found = units(keras.Model(inputs, kl.Dense(2)(inputs)))
    assert found.graph.traced == []
    check_unrolling(found, [np.ones((1, 99), "float32")], low_precision=False)


class Noisy(keras.layers.Layer):
    """It draws random numbers in inference as well."""

    def build(self, shape):
        self.draws = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.draws)


class Halves(keras.layers.Layer):
    """A layer of a layer, which is unrolled."""

    def build(self, shape):
        self.noise, self.dense = Noisy(name="noise"), kl.Dense(6, name="dense")
        self.noise.build(shape)
        self.dense.build(shape)

    def call(self, x):
        return self.dense(self.noise(x))


def test_a_model_that_draws_in_inference_is_compared_with_the_same_draws() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(Halves(name="halves")(inputs)))
    data = np.ones((2, 4), "float32")
    assert np.abs(model(data) - model(data)).max() > 0.01
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert small.get_layer("dense").units == 3
    assert report.error <= 1e-4
