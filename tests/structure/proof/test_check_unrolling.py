import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

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


def test_a_model_that_fails_at_the_length_of_the_inputs_is_said_to() -> None:
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, kl.Dense(2)(Fixed(name="fixed")(inputs)))
    with pytest.raises(ModelError, match="fails on random inputs .*64, 4.*input_shape="):
        tfprune.shrink(model, {"channels": 0.5}, round_to=1)
    _, report = tfprune.shrink(model, {"channels": 0.5}, round_to=1, input_shape=(5, 4))
    assert report.error <= 1e-4


class Chosen(Fixed):
    """It looks rows up by its input, which must be a valid index."""

    def call(self, x):
        return ops.take(self.dense(x), ops.cast(x[0, :, 0], "int32") + 99, axis=1)


def test_a_model_that_fails_on_random_inputs_is_named_as_the_cause() -> None:
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, kl.Dense(2)(Chosen(name="chosen")(inputs)))
    with pytest.raises(ModelError, match="fails on random inputs of shapes .*cannot be verified"):
        tfprune.shrink(model, {"channels": 0.5}, round_to=1)


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


class Misdeclared(Noisy):
    """Its output has an axis that it does not declare."""

    def call(self, x):
        return keras.ops.expand_dims(super().call(x), 1)

    def compute_output_shape(self, shape):
        return shape


class ByRank(Fixed):
    """What it does depends on the rank of its input."""

    def call(self, x):
        y = self.dense(x)
        return y[:, 0] if len(x.shape) == 3 else self.flat(y)

    def flat(self, y):
        return y * 2


class Turned(ByRank):
    def flat(self, y):
        return ops.transpose(ops.transpose(y, (1, 0)), (1, 0))


@pytest.mark.parametrize(
    ("kind", "what"),
    [(ByRank, "compute something else"), (Turned, "operations fail .*Pass input_shape=")],
)
def test_a_layer_that_declares_another_shape_is_refused(kind, what) -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(2)(kind(name="by_rank")(Misdeclared()(inputs)))
    with pytest.raises(ModelError, match=f"traced .*{what}.*by_rank"):
        tfprune.shrink(keras.Model(inputs, x), {"channels": 0.5}, round_to=1)


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
