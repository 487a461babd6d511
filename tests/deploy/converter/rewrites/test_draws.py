"""Models that draw random numbers when they predict."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import ops

from tfprune.deploy.onnx.to_onnx import to_onnx
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ConversionError, OptionError
from tfprune.runtime.litert import Runner

L = keras.layers


class _Sampling(L.Layer):
    """As in the VAE of the Keras examples."""

    def __init__(self, kind=keras.random.normal, **options):
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.kind = kind

    def call(self, inputs):
        mean, spread = inputs
        noise = self.kind(shape=ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * spread) * noise


class _OldSampling(tf_keras.layers.Layer):
    def call(self, inputs):
        mean, spread = inputs
        return mean + tf.exp(0.5 * spread) * tf.random.normal(tf.shape(mean))


def _encoder(k, sampling):
    k.utils.set_random_seed(0)
    inputs = k.Input((6,))
    h = k.layers.Dense(8, activation="relu")(inputs)
    mean, spread = k.layers.Dense(3)(h), k.layers.Dense(3)(h)
    return k.Model(inputs, [mean, spread, sampling([mean, spread])])


_X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")


@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8"])
@pytest.mark.parametrize("k", [keras, tf_keras])
def test_the_noise_of_a_sampling_layer_becomes_its_mean(k, scheme):
    sampling = _Sampling(name="sampling") if k is keras else _OldSampling(name="sampling")
    model = _encoder(k, sampling)
    with pytest.raises(ConversionError, match=r"in 'model/sampling|sampling/.*random='mean'"):
        to_tflite(model, scheme=scheme, calibration=_X)
    artifact = to_tflite(model, scheme=scheme, calibration=_X, random="mean")
    mean, _, sampled = Runner(artifact)(_X).values()
    assert np.abs(mean - sampled).max() < (0.05 if scheme == "int8" else 1e-6)


def test_the_mean_of_a_uniform_distribution_is_in_its_middle():
    model = _encoder(keras, _Sampling(keras.random.uniform))
    mean, spread, sampled = Runner(to_tflite(model, random="mean"))(_X).values()
    np.testing.assert_allclose(sampled, mean + 0.5 * np.exp(0.5 * spread), rtol=1e-5)


def test_draws_without_a_mean_are_refused():
    inputs = keras.Input((6,))
    layer = keras.layers.Lambda(lambda x: x + tf.random.shuffle(x), output_shape=(6,))
    with pytest.raises(ConversionError, match=r"RandomShuffle.*'mean' is for normal and uniform"):
        to_tflite(keras.Model(inputs, layer(inputs)), random="mean")
    with pytest.raises(OptionError, match="random: expected 'mean' or None. Received 'zero'"):
        to_tflite(keras.Model(inputs, layer(inputs)), random="zero")


class Unused(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = L.Dense(4), L.Dense(2)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        h = self.hidden(x)
        noisy = h + keras.random.normal(ops.shape(h), seed=self.seed_generator)
        return self.last(noisy if training else h)


def test_draws_that_no_output_depends_on_are_not_in_the_file():
    model = Unused()
    model(_X)
    assert set(to_tflite(model).report.ops) == {"FULLY_CONNECTED"}


def test_the_same_holds_for_onnx():
    pytest.importorskip("tf2onnx", reason="needs the extra [onnx]")
    model = _encoder(keras, _Sampling(name="sampling"))
    with pytest.raises(ConversionError, match=r"^model '\w+' draws random numbers .*random='mean'"):
        to_onnx(model)
    assert to_onnx(model, random="mean").report.parity[2].rms_error < 1e-6
    unused = Unused()
    unused(_X)
    assert "RandomNormal" not in to_onnx(unused).report.ops
