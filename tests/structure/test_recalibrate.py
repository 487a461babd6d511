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
    with pytest.raises(DataError, match="bn statistics that are not finite"):
        tfprune.recalibrate(model, np.linspace(0, 3e38, 12, dtype="float32").reshape(4, 3))
    np.testing.assert_array_equal(model.get_layer("bn").moving_mean, np.zeros(3))
    with pytest.raises(DataError, match="empty"):
        tfprune.recalibrate(model, [])
