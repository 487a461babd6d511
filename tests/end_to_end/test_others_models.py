"""Models as other people's scripts make and save them, through every verb of the command."""

import sys
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.commands.calls import tfprune_command
from tfprune.pipeline import compress
from tfprune.recipe import load_recipe

RANDOM = np.random.default_rng(0)
COUNT = 48


@keras.saving.register_keras_serializable("others")
class Net(keras.Model):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.last = L.Dense(16, "relu"), L.Dense(3, "softmax")

    def call(self, x):
        return self.last(self.first(x))


@keras.saving.register_keras_serializable("others")
class Scale(L.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


def own_loss(labels, outputs):
    return keras.ops.mean(keras.ops.abs(labels - outputs), axis=-1)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=(COUNT, *shape)).astype(np.float32)


def classes(*shape: int, below: int = 3) -> np.ndarray:
    return RANDOM.integers(0, below, (COUNT, *shape)).astype(np.int32)


def chain(*layers: L.Layer, shape: tuple = (8,), dtype: str = "float32") -> keras.Model:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def subclassed() -> tuple[keras.Model, Any, Any]:
    model, x, y = Net(), numbers(8), classes()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    return model, x, y


def of_two_inputs(*, named: bool) -> tuple[keras.Model, Any, Any]:
    ends = {"left": keras.Input((8,), name="left"), "right": keras.Input((4,), name="right")}
    hidden = L.Dense(16, "relu")(L.Concatenate()(list(ends.values())))
    model = keras.Model(ends if named else list(ends.values()), L.Dense(1)(hidden))
    return model, {"left": numbers(8), "right": numbers(4)}, numbers(1)


def of_two_outputs() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input((8,))
    hidden = L.Dense(16, "relu")(inputs)
    heads = {"kind": L.Dense(3, name="kind")(hidden), "size": L.Dense(2, name="size")(hidden)}
    model = keras.Model(inputs, heads)
    loss = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mae"}
    model.compile("adam", loss, loss_weights={"kind": 1.0, "size": 0.3})
    return model, numbers(8), {"kind": classes(), "size": numbers(2)}


def images_of_any_size() -> tuple[keras.Model, Any, Any]:
    body = [L.Conv2D(16, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(3, "softmax")]
    return chain(*body, shape=(None, None, 1)), numbers(12, 12, 1), classes()


def bytes_in() -> tuple[keras.Model, Any, Any]:
    body = [L.Rescaling(1 / 255), L.Conv2D(16, 3, activation="relu"), L.GlobalAveragePooling2D()]
    model = chain(*body, L.Dense(3), shape=(8, 8, 3), dtype="uint8")
    return model, classes(8, 8, 3, below=256).astype(np.uint8), classes()


def with_own_loss() -> tuple[keras.Model, Any, Any]:
    model = chain(L.Dense(16, "relu"), L.Dense(2))
    model.compile("adam", own_loss)
    return model, numbers(8), numbers(2)


def with_own_layer() -> tuple[keras.Model, Any, Any]:
    model = chain(L.Dense(16, "relu"), Scale(), L.Dense(2))
    model.compile("sgd", keras.losses.Huber(2.0))
    return model, numbers(8), numbers(2)


def tokens() -> tuple[keras.Model, Any, Any]:
    model = chain(L.Embedding(20, 8), L.LSTM(16), L.Dense(3), shape=(6,), dtype="int32")
    return model, classes(6, below=20), classes()


def old_file() -> tuple[keras.Model, Any, Any]:
    model = chain(L.Conv2D(16, 3, activation="relu"), L.BatchNormalization(), L.Flatten(),
                  L.Dense(3, "softmax"), shape=(8, 8, 1))  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, numbers(8, 8, 1), classes()


def pixels() -> tuple[keras.Model, Any, Any]:
    body = [L.Conv2D(16, 3, padding="same", activation="relu"), L.Conv2D(3, 1)]
    return chain(*body, shape=(8, 8, 1)), numbers(8, 8, 1), classes(8, 8)


MODELS = {
    "subclassed": (subclassed, "classification"),
    "two inputs": (lambda: of_two_inputs(named=False), "regression"),
    "inputs in a dict": (lambda: of_two_inputs(named=True), "regression"),
    "two outputs": (of_two_outputs, "kind: classification, size: regression"),
    "any size": (images_of_any_size, "classification"),
    "bytes": (bytes_in, "labels"),
    "own loss": (with_own_loss, "labels"),
    "own layer": (with_own_layer, "regression"),
    "tokens": (tokens, "labels"),
    "h5": (old_file, "classification"),
    "pixels": (pixels, "segmentation"),
}


@pytest.fixture(params=MODELS)
def given(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A model in a file, and data for it in another."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    model, x, y = MODELS[request.param][0]()
    file = "m.h5" if request.param == "h5" else "m.keras"
    model.save(file)
    inputs = x if isinstance(x, dict) else {"x": x}
    np.savez("inputs.npz", **inputs)
    module = types.ModuleType("others_data")
    module.both = lambda: ((x, y), (x, y))
    monkeypatch.setitem(sys.modules, "others_data", module)
    return file, MODELS[request.param][1]


@pytest.mark.slow
def test_every_verb_takes_it(given: tuple[str, str]) -> None:
    file, _ = given
    for words in (
        f"convert {file} -o dense.tflite",
        f"convert {file} --calibration inputs.npz -o small.tflite",
        f"shrink {file} --target params=0.6 --round-to 1 --data inputs.npz -o s.keras",
        f"prune {file} --sparsity 0.5 --oneshot --data inputs.npz -o p.keras",
        "convert s.keras -o s.tflite",
        f"units {file}",
        f"init {file}",
    ):
        assert tfprune_command(words) == 0, words
    assert Path("small.tflite").stat().st_size > 0


TINY = {"shrink": "epochs=1", "prune": "epochs=1", "gate": "max_drop=0.99"}


@pytest.mark.exhaustive
def test_the_recipe_that_is_written_for_it_runs(given: tuple[str, str]) -> None:
    file, task = given
    assert tfprune_command(f"init {file} --data others_data:both -o r.toml") == 0
    text = Path("r.toml").read_text()
    assert ("from the labels" if task == "labels" else task.partition(":")[0]) in text
    tables = load_recipe("r.toml").to_dict()
    changes = [f"{t}.{k}" for t, k in TINY.items() if t in tables]
    report = compress(None, load_recipe("r.toml", [*changes, "measure.runs=2"])).report
    assert all(np.isfinite(row.score) for row in report.rows)
