"""A small convnet, its files, and data on which the float file is right nine times in ten."""

import keras
import numpy as np
import pytest

from tfprune.deploy.onnx.to_onnx import to_onnx
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.artifact import Artifact

L = keras.layers


@pytest.fixture(scope="session")
def convnet() -> keras.Model:
    """A convolution and a Dense layer, 3·3·1·8 + 8 + 200·10 + 10 = 2,090 weights."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1), name="image"),
            L.Conv2D(8, 3, activation="relu", name="conv"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(10, activation="softmax", name="head"),
        ],
        name="convnet",
    )
    for name in ("conv", "head"):
        bias = model.get_layer(name).bias
        bias.assign(np.linspace(0.1, 0.2, bias.shape[0]))
    return model


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """A hundred and twenty images."""
    return np.random.default_rng(0).normal(size=(120, 12, 12, 1)).astype("float32")


@pytest.fixture(scope="session")
def labels(convnet, images) -> np.ndarray:
    """The classes that the model predicts, except for every tenth image."""
    truth = convnet.predict(images, verbose=0).argmax(-1)
    truth[::10] = (truth[::10] + 1) % 10
    return truth


@pytest.fixture(scope="session")
def float_file(convnet) -> Artifact:
    """The convnet as float32."""
    return to_tflite(convnet)


@pytest.fixture(scope="session")
def int8_file(convnet, images) -> Artifact:
    """The convnet as int8."""
    return to_tflite(convnet, scheme="int8", calibration=images)


@pytest.fixture(scope="session")
def onnx_file(convnet) -> Artifact:
    """The convnet as ONNX."""
    return to_onnx(convnet)
