import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import DataError, ModelError


def net():
    inputs = keras.Input((3,))
    return keras.Model(inputs, kl.Dense(2)(kl.BatchNormalization(name="bn")(inputs)))


def test_statistics_are_the_average_over_the_batches() -> None:
    model = net()
    rng = np.random.default_rng(0)
    batches = [rng.normal(n, 1 + n, size=(16, 3)).astype("float32") for n in range(3)]
    kernel = model.layers[-1].kernel.numpy()
    assert tfprune.recalibrate(model, [(batch, None) for batch in batches]) is model
    norm = model.get_layer("bn")
    np.testing.assert_allclose(norm.moving_mean, np.mean([b.mean(0) for b in batches], 0), 1e-5)
    np.testing.assert_allclose(norm.moving_variance, np.mean([b.var(0) for b in batches], 0), 1e-5)
    assert norm.momentum == 0.99
    np.testing.assert_array_equal(model.layers[-1].kernel, kernel)


def test_a_small_last_batch_weighs_what_it_holds() -> None:
    model = net()
    x = np.random.default_rng(0).normal(2, 3, size=(33, 3)).astype("float32")
    tfprune.recalibrate(model, x)
    norm = model.get_layer("bn")
    np.testing.assert_allclose(norm.moving_mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, 32 / 33 * x[:32].var(0), rtol=1e-4)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "float64"])
def test_a_layer_that_is_called_twice_averages_over_both(policy: str) -> None:
    norm = kl.BatchNormalization(name="bn", dtype=policy)
    one, two = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([one, two], kl.Add()([norm(one), norm(two)]))
    rng = np.random.default_rng(0)
    x = [rng.normal(mean, 1, size=(64, 3)).astype("float32") for mean in (5, -5)]
    tfprune.recalibrate(model, x)
    np.testing.assert_allclose(norm.moving_mean, (x[0].mean(0) + x[1].mean(0)) / 2, atol=5e-3)
    steps = keras.Sequential([keras.Input((4, 3)), kl.TimeDistributed(kl.BatchNormalization())])
    x = (np.arange(4) * np.ones((32, 3, 4))).transpose(0, 2, 1)
    tfprune.recalibrate(steps, x.astype("float32"))
    np.testing.assert_allclose(steps.layers[0].layer.moving_mean, np.full(3, 1.5), rtol=1e-5)


class Counting(kl.Layer):
    def build(self, shape) -> None:
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs, training=None):
        if training:
            self.count.assign_add(1.0)
        return inputs


def test_nothing_else_of_the_model_changes() -> None:
    model = keras.Sequential(
        [keras.Input((3,)), kl.Dropout(0.5, seed=1), Counting(),
         kl.SpectralNormalization(kl.Dense(4)), kl.BatchNormalization(name="bn")]
    )  # fmt: skip
    before = {variable.path: np.array(variable) for variable in model.variables}
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    tfprune.recalibrate(model, x)
    changed = [v.path for v in model.variables if not np.array_equal(before[v.path], v)]
    assert [path.split("/")[-2:] for path in changed] == [
        ["bn", "moving_mean"], ["bn", "moving_variance"]
    ]  # fmt: skip
    assert "call" not in vars(model.get_layer("bn"))


def test_inputs_are_told_by_their_names() -> None:
    z, a = keras.Input((2,), name="z"), keras.Input((2,), name="a")
    model = keras.Model([z, a], kl.BatchNormalization(name="bn")(kl.Concatenate()([z, a])))
    ones = np.ones((8, 2), "float32")
    tfprune.recalibrate(model, {"a": ones, "z": 3 * ones})
    np.testing.assert_allclose(model.get_layer("bn").moving_mean, [3, 3, 1, 1], rtol=1e-6)
    with pytest.raises(DataError, match="recalibrate data=: no input 'z'"):
        tfprune.recalibrate(model, {"a": ones})


def test_what_cannot_be_recalibrated_is_said() -> None:
    plain = keras.Sequential([keras.Input((3,)), kl.Dense(2)])
    with pytest.raises(ModelError, match="there is none"):
        tfprune.recalibrate(plain, np.ones((2, 3)))
    model = net()
    model.get_layer("bn").trainable = False
    with pytest.raises(ModelError, match=r"all are frozen \(bn\)"):
        tfprune.recalibrate(model, np.ones((2, 3)))


def test_bad_data_leaves_the_model_as_it_was() -> None:
    model = net()
    with pytest.raises(DataError, match="recalibrate data= holds NaN or infinity"):
        tfprune.recalibrate(model, np.full((4, 3), np.nan, "float32"))
    with pytest.raises(DataError, match="statistics of bn on the data are not finite"):
        tfprune.recalibrate(model, np.linspace(0, 3e38, 12, dtype="float32").reshape(4, 3))
    np.testing.assert_array_equal(model.get_layer("bn").moving_mean, np.zeros(3))
    with pytest.raises(DataError, match="empty"):
        tfprune.recalibrate(model, [])
