"""Small models with random weights, and the files made of them, once for the session."""

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.artifact import Artifact

L = keras.layers


@pytest.fixture
def quantizer() -> None:
    """Skip where litert-quantizer, an extra, is missing: it needs ai-edge-litert 2.3 or newer."""
    pytest.importorskip("litert_quantizer", reason="needs the extra [quantizer]")


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Fifty images of 8×8."""
    return np.random.default_rng(0).normal(size=(50, 8, 8, 1)).astype("float32")


@pytest.fixture(scope="session")
def convnet() -> keras.Model:
    """A convolution, a BatchNorm with statistics, a Dense layer: 1,940 weights and more."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            L.Conv2D(8, 3, padding="same", use_bias=False, name="conv"),
            L.BatchNormalization(name="norm"),
            L.ReLU(6.0),
            L.Flatten(),
            L.Dense(4, name="logits"),
        ]
    )
    rng = np.random.default_rng(1)
    gamma, beta, mean, variance = (rng.uniform(0.5, 1.5, 8) for _ in range(4))
    model.get_layer("norm").set_weights([gamma, beta, mean, variance])
    return model


@pytest.fixture(scope="session")
def labels(convnet, images) -> np.ndarray:
    """The classes that the model predicts, except for every tenth image."""
    truth = convnet.predict(images, verbose=0).argmax(-1)
    truth[::10] = (truth[::10] + 1) % 4
    return truth


@pytest.fixture(scope="session")
def float_file(convnet) -> Artifact:
    """The convnet as float32."""
    return to_tflite(convnet)


@pytest.fixture(scope="session")
def int8_file(convnet, images) -> Artifact:
    """The convnet as int8 with int8 in and out."""
    return to_tflite(convnet, scheme="int8", calibration=images)
