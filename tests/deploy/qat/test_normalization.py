"""BatchNormalization that folds into nothing, against Keras's own and against the file."""

import keras
import numpy as np
import pytest

from tfprune.deploy.qat.normalization import QuantisedBatchNormalization
from tfprune.deploy.qat.quantize_aware import quantize_aware, strip_quantization
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.inspect import inspect
from tfprune.runtime.litert import Runner

L = keras.layers


def _filled(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "gamma" in weight.name or "variance" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "beta" in weight.name or "moving_mean" in weight.name:
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"axis": 1}], ids=str)
@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 5, 3), (2, 4, 5, 3)], ids=len)
def test_it_gives_what_keras_gives(shape, options, training):
    plain = L.BatchNormalization(**options)
    layer = QuantisedBatchNormalization(**options)
    for each in (plain, layer):
        each.build((None, *shape))
        _filled(each)
    x = np.random.default_rng(1).normal(size=(6, *shape)).astype("float32")
    np.testing.assert_allclose(
        layer(x, training=training), plain(x, training=training), rtol=1e-5, atol=1e-6
    )
    for own, theirs in zip(layer.weights, plain.weights, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-6)


def test_a_frozen_one_keeps_its_statistics_in_training():
    layer = QuantisedBatchNormalization(trainable=False)
    layer.build((None, 2))
    layer.set_weights([np.float32(v) for v in ([2, 1], [0, 1], [1, 0], [4 - 1e-3, 1 - 1e-3])])
    np.testing.assert_allclose(layer(np.float32([[5, 3]]), training=True), [[4, 4]], rtol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean, [1, 0])


def _preactivated(inputs):
    """Two blocks as those of ResNetV2: what is added has no BatchNormalization behind it."""
    total = L.Conv2D(6, 3, padding="same", name="stem")(inputs)
    for i in range(2):
        h = L.Activation("relu")(L.BatchNormalization(name=f"norm_{i}")(total))
        h = L.Conv2D(6, 3, padding="same", use_bias=False)(h)
        h = L.ReLU()(L.BatchNormalization(name=f"folded_{i}")(h))
        total = L.Add()([total, L.Conv2D(6, 3, padding="same")(h)])
    return L.ReLU()(L.BatchNormalization(name="norm_end")(total))


def _tutorial(inputs):
    """The order of many a tutorial, twice."""
    h = L.Conv2D(6, 3, activation="relu")(inputs)
    h = L.MaxPooling2D()(L.BatchNormalization(name="norm_0")(h))
    h = L.Flatten()(h)
    return L.BatchNormalization(name="norm_1")(L.Dense(16, activation="relu")(h))


@pytest.mark.parametrize("build", [_preactivated, _tutorial])
@pytest.mark.slow
def test_the_file_is_what_was_trained_and_needs_no_data(build):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    model = _filled(keras.Model(inputs, L.Dense(4, name="last")(build(inputs))))
    norms = [layer.name for layer in model.layers if layer.name.startswith("norm")]
    x = np.random.default_rng(0).normal(size=(96, 8, 8, 3)).astype("float32")
    aware = quantize_aware(model)
    np.testing.assert_allclose(strip_quantization(aware)(x), model(x), atol=1e-5)
    aware.compile(keras.optimizers.Adam(1e-3), "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=1, verbose=0)

    # Operations that stay float would be an error here.
    artifact = to_tflite(aware, scheme="int8")
    assert artifact.report.notes == ()
    assert artifact.report.ops["DEPTHWISE_CONV_2D"] == len(norms)
    assert not {"MUL", "QUANTIZE", "DEQUANTIZE", "RELU"} & artifact.report.ops.keys()
    steps = np.abs(Runner(artifact)(x) - aware.predict(x, verbose=0))
    steps /= artifact.report.outputs[0].scale
    assert np.mean(steps < 0.01) > 0.95
    # A step in the first layer is several in the last.
    assert steps.mean() < 0.05

    plain = strip_quantization(aware)
    for name in norms:
        assert type(plain.get_layer(name)) is L.BatchNormalization
        for kept, trained in zip(
            plain.get_layer(name).get_weights(), aware.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(kept, trained)


def test_channels_that_are_closed_or_nearly_so_keep_their_shift():
    """A weight of 0 has no scale of its own, and the bias is counted in steps of it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    h = L.Conv2D(5, 3, activation="relu")(inputs)
    model = _filled(keras.Model(inputs, L.BatchNormalization(name="norm")(h)))
    gamma = model.get_layer("norm").gamma
    gamma.assign(gamma.numpy() * np.array([1, 0, 1e-4, 1e-9, -1e-12]))
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 3)).astype("float32")
    aware = quantize_aware(model)
    aware.get_layer("norm").trainable = False  # of a batch its own statistics would count
    aware(x, training=True)
    artifact = to_tflite(aware, scheme="int8")
    step = artifact.report.outputs[0].scale
    assert np.abs(Runner(artifact)(x) - aware(x)).max() < 1.01 * step
    assert all(row.dtype in ("int8", "int32") for row in inspect(artifact).tensors)
