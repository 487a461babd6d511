"""SavedModels of all versions load from config and weights; what they lack is an error."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.loading import payloads
from tfprune.errors import ArtifactError
from tfprune.loading.folders import check_model_folder, load_weights_into, read_config
from tfprune.loading.load import load_model


@pytest.fixture(scope="module")
def model() -> Any:
    m = tf_keras.layers
    inner = tf_keras.Sequential([m.Input((6, 6, 4)), m.BatchNormalization(), m.Flatten()])
    image = tf_keras.Input((8, 8, 3))
    x = inner(m.Conv2D(4, 3, activation="relu")(image))
    made = tf_keras.Model(image, m.Dense(2)(1.0 - x * 2.0))
    made.compile("adam", "mse")
    made.fit(np.ones((4, 8, 8, 3)), np.ones((4, 2)), verbose=0)
    return made


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "m"
    model.save(path)
    return path


@pytest.mark.parametrize("age", ["new", "old"])
def test_models_of_every_age_load_with_their_weights(
    age: str, model: Any, folder: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(folder, tmp_path / "m"))
    if age == "old":
        payloads.make_old(path)
    check_model_folder(path)
    loaded = load_model(path)
    assert [layer.name for layer in loaded.layers if "math" not in layer.name.lower()]
    x = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_sequential_model_without_an_input_layer(tmp_path: Path) -> None:
    model = tf_keras.Sequential([tf_keras.layers.Dense(3), tf_keras.layers.ReLU()])
    x = np.random.default_rng(0).random((2, 4), "float32")
    expected = model(x)
    model.save(tmp_path / "m")
    np.testing.assert_allclose(load_model(tmp_path / "m")(x), expected, rtol=1e-5)


class Subclass(tf_keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = tf_keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)


def test_folders_without_a_graph_of_layers_are_refused(model: Any, tmp_path: Path) -> None:
    own = Subclass()
    own(np.ones((1, 4), "float32"))
    own.save(tmp_path / "subclass")
    tf.saved_model.save(model, tmp_path / "exported")
    module = tf.Module()
    module.inner = model
    tf.saved_model.save(module, tmp_path / "holder")
    module = tf.Module()
    module.v = tf.Variable(1.0)
    tf.saved_model.save(module, tmp_path / "plain")
    for name, reason in {
        "subclass": r"the model is subclassed \(Subclass\)",
        "exported": "a SavedModel of a Keras model without its config",
        "holder": "a SavedModel with Keras layers, but not of a Keras model",
        "plain": "a SavedModel without Keras layers",
    }.items():
        with pytest.raises(ArtifactError, match=reason) as error:
            load_model(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_weight_that_is_not_stored_is_an_error(folder: Path) -> None:
    config = read_config(folder)
    assert config["class_name"] == "Functional"
    other = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.LayerNormalization()])
    with pytest.raises(ArtifactError, match="weights of the model are missing"):
        load_weights_into(other, folder)
