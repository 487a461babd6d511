"""A model that someone else has saved, and data for it."""

from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model and data for it."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(4, activation="softmax", name="classes"),
        ],
        name="someones",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    x, y = random.random((64, 8, 8, 1), np.float32), random.integers(0, 4, 64)
    model.fit(x, y, verbose=0)
    model.save(folder / "m.keras")
    np.savez(folder / "d.npz", x=x, y=y)
    np.save(folder / "x.npy", x)
    return folder


@pytest.fixture
def folder(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the current folder."""
    monkeypatch.chdir(models_folder)
    return models_folder


@pytest.fixture(scope="session")
def compared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a float32 and as an int8 file, and labeled samples."""
    folder = tmp_path_factory.mktemp("compared")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    x = np.random.default_rng(0).random((40, 8), np.float32)
    for scheme in ("float32", "int8"):
        tfprune.to_tflite(model, folder / f"{scheme}.tflite", scheme=scheme, calibration=x)
    np.savez(folder / "test.npz", x=x, y=np.asarray(model(x)).argmax(-1))
    return folder
