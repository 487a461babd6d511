"""A range that is found in training."""

import keras
import numpy as np
import pytest

from tfprune.deploy.qat.quantize_aware import quantize_aware
from tfprune.deploy.qat.rounding.ranges import (
    ActivationRange,
    rounded_constant,
    rounded_symmetric,
)
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.litert import Runner

L = keras.layers


def test_a_range_about_zero_has_zero_in_its_middle():
    layer = ActivationRange(about_zero=True)
    layer(np.array([[-0.5, 1.27]], "float32"), training=True)
    steps = np.asarray(layer(np.array([[-9.0, 0.0, 0.304, 9.0]], "float32"))) / 0.01
    np.testing.assert_allclose(steps[0], [-128, 0, 30, 127], atol=1e-4)
    assert ActivationRange.from_config(layer.get_config()).about_zero


def test_a_range_widens_at_once_and_narrows_slowly():
    layer = ActivationRange(momentum=0.9)
    x = np.array([[-1.0, 0.3, 2.0]], "float32")
    np.testing.assert_array_equal(layer(x), x)
    layer(x, training=True)
    assert [float(weight) for weight in (layer.low, layer.high, layer.seen)] == [-1.0, 2.0, 1.0]
    layer(x / 2, training=True)
    np.testing.assert_allclose([layer.low, layer.high], [-0.95, 1.9], rtol=1e-6)
    # 256 values between −0.95 and 1.9, one of them 0: steps of 2.85 / 255.
    steps = np.asarray(layer(np.array([[-9.0, 0.0, 0.3, 9.0]], "float32"))) / (2.85 / 255)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    np.testing.assert_allclose(steps[0], [-85, 0, 27, 170], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "high"),
    [
        ("widening", 3.98),
        ("moving_average", 2.002),
        ("last_value", 2.0),
        ("all_values", 4.0),
    ],
)
def test_a_range_follows_the_batches_as_its_kind_says(kind, high):
    layer = ActivationRange(kind=kind)
    for largest in (2.0, 4.0, 2.0):
        layer(np.array([[0.0, largest]], "float32"), training=True)
    np.testing.assert_allclose(layer.high, high, rtol=1e-5)
    assert ActivationRange.from_config(layer.get_config()).kind == kind


def test_tensors_of_one_range_narrow_it_together_as_slowly_as_one_does():
    inputs = keras.Input((4,))
    halves = [L.Dense(2, name=name)(inputs) for name in ("left", "right")]
    aware = quantize_aware(keras.Model(inputs, L.Concatenate(name="joined")(halves)))
    trained = aware.get_layer("joined_range")
    aware(np.ones((1, 4), "float32"), training=True)
    wide = float(trained.high - trained.low)
    aware(np.zeros((1, 4), "float32"), training=True)
    np.testing.assert_allclose(float(trained.high - trained.low), 0.99 * wide, rtol=1e-5)


@pytest.mark.parametrize("trained", [True, False])
def test_a_tensor_that_is_always_zero_has_a_scale_that_the_runtime_takes(trained):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    h = L.Conv2D(4, 3, activation="relu", bias_initializer=keras.initializers.Constant(-1e3))(
        inputs
    )
    h = L.Conv2D(4, 3, bias_initializer="random_normal", padding="same")(h)
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(h))
    x = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype("float32")
    if trained:
        model = quantize_aware(model)
        model(x, training=True)
    artifact = to_tflite(model, scheme="int8", calibration=x)
    np.testing.assert_allclose(Runner(artifact)(x), np.asarray(model(x)), atol=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_a_bias_behind_a_kernel_of_zeros_is_stored(kind, bits):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(16, 4, 4, 3)).astype("float32")
    bias = keras.initializers.RandomNormal(stddev=1.0)
    layers = {
        "dense": [keras.layers.Flatten(), keras.layers.Dense(5, "relu", bias_initializer=bias)],
        "conv": [keras.layers.Conv2D(5, 3, activation="relu", bias_initializer=bias)],
    }[kind]
    model = keras.Sequential([keras.Input((4, 4, 3)), *layers, keras.layers.Dense(2)])
    layer = model.layers[-2]
    kernel = np.array(layer.kernel)
    kernel[..., [0, 2]] = 0.0  # two channels of zeros
    layer.kernel.assign(kernel if kind == "conv" else np.zeros_like(kernel))
    aware = quantize_aware(model, bits=bits)
    aware.compile("sgd", "mse")
    aware.fit(x, np.zeros((16, *model.output_shape[1:])), epochs=1, verbose=0)
    artifact = to_tflite(aware, scheme="int8", calibration=x)
    assert artifact.report.parity[0].correlation > 0.999


@pytest.mark.parametrize("axes", [(0, 1), (0,)])
def test_a_constant_is_rounded_as_a_kernel_is(axes):
    kernel = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    kernel[:, 2] = 0
    found = np.asarray(rounded_constant(kernel, axes))
    np.testing.assert_allclose(found, rounded_symmetric(kernel, axes), atol=1e-6)


def test_a_constant_of_few_bits_has_their_values():
    kernel = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    found = np.asarray(rounded_constant(kernel, (0,), bits=4))
    np.testing.assert_allclose(found, rounded_symmetric(kernel, (0,), bits=4), atol=1e-6)


@pytest.mark.slow
def test_a_kernel_that_the_converter_does_not_fold_is_in_the_file():
    """The largest weight of 141 MB was left in the file as an operation."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8192,)), L.Dense(4300), L.Dense(2)])
    x = np.random.default_rng(0).normal(size=(8, 8192)).astype("float32")
    aware = quantize_aware(model)
    aware(x, training=True)
    written = to_tflite(aware, scheme="int8")
    assert len(written.bytes) < 8192 * 4300 * 1.01
    np.testing.assert_allclose(Runner(written)(x[:1])[0], aware(x[:1])[0], atol=0.05)
