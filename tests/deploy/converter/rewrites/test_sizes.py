"""Sizes that tracing knows, in files whose batch is open."""

import keras
import numpy as np
import pytest
import tf_keras
from keras import ops

from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.litert import Runner

L = keras.layers


def _u_net(k, size, down=(8,), up=(8, 4)):
    """The U-Net of the Keras examples, which adds an upsampled input to each block."""
    layers = k.layers
    inputs = k.Input((*size, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = before = layers.Activation("relu")(layers.BatchNormalization()(x))
    for filters in down:
        x = layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x))
        x = layers.MaxPooling2D(3, strides=2, padding="same")(layers.BatchNormalization()(x))
        residual = layers.Conv2D(filters, 1, strides=2, padding="same")(before)
        x = before = layers.add([x, residual])
    for filters in up:
        x = layers.Conv2DTranspose(filters, 3, padding="same")(layers.Activation("relu")(x))
        x = layers.UpSampling2D(2)(layers.BatchNormalization()(x))
        residual = layers.UpSampling2D(2)(before)
        residual = layers.Conv2D(filters, 1, padding="same")(residual)
        x = before = layers.add([x, residual])
    return k.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8"])
def test_a_u_net_converts_with_an_open_batch(scheme):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(20, 16, 16, 3)).astype("float32")
    artifact = to_tflite(_u_net(keras, (16, 16)), scheme=scheme, calibration=x)
    assert artifact.report.outputs[0].shape == (-1, 16, 16, 3)
    assert Runner(artifact)(x[:5]).shape == (5, 16, 16, 3)


@pytest.mark.parametrize("k", [keras, tf_keras])
def test_a_u_net_takes_images_of_any_size(k):
    keras.utils.set_random_seed(0)
    model = _u_net(k, (None, None))
    artifact = to_tflite(model)
    assert artifact.report.outputs[0].shape == (-1, -1, -1, 3)
    x = np.random.default_rng(0).normal(size=(2, 24, 16, 3)).astype("float32")
    np.testing.assert_allclose(Runner(artifact)(x), np.asarray(model(x)), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Flatten(), (4, 3)),
        (L.Reshape((-1, 6)), (4, 3)),
        (L.UpSampling1D(2), (4, 3)),
        (L.UpSampling2D((3, 1)), (4, 4, 3)),
        (L.UpSampling3D(2), (2, 2, 2, 3)),
        (L.RepeatVector(4), (3,)),
        (lambda x: ops.repeat(x, 3, axis=-1), (4, 3)),
    ],
    ids=["Flatten", "Reshape", "UpSampling1D", "UpSampling2D", "UpSampling3D", "RepeatVector", "r"],
)
def test_no_size_is_computed_when_only_the_batch_is_open(layer, shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs * 2.0))
    artifact = to_tflite(model)
    assert artifact.report.outputs[0].shape == (-1, *model.output_shape[1:])
    assert not {"SHAPE", "STRIDED_SLICE"} & set(artifact.report.ops)


def test_flatten_is_one_reshape_in_an_integer_file():
    inputs = keras.Input((4, 4, 2))
    h = keras.layers.Reshape((16, 2))(keras.layers.Conv2D(2, 1)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(h)))
    x = np.random.default_rng(0).normal(size=(50, 4, 4, 2)).astype("float32")
    artifact = to_tflite(model, scheme="int8", calibration=x)
    assert set(artifact.report.ops) == {"CONV_2D", "RESHAPE", "FULLY_CONNECTED"}
    assert Runner(artifact)(x).shape == (50, 3)
