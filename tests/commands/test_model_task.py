"""The task that `tfprune init` reads from a model without data."""

import keras
import pytest
from keras import layers as L

from tfprune.commands.model_task import guess_of_model


def ending(*ends: keras.layers.Layer, shape: tuple = (8,), dtype: str = "float32") -> keras.Model:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *ends])


SEQUENCE = {"shape": (6,), "dtype": "int32"}
MODELS = {
    "softmax": (ending(L.Dense(3, "softmax")), "classification", "after softmax"),
    "softmax layer": (ending(L.Dense(3), L.Softmax()), "classification", "after softmax"),
    "one sigmoid": (ending(L.Dense(1, "sigmoid")), "classification", "after sigmoid"),
    "sigmoids": (ending(L.Dense(3, "sigmoid")), "multi_label", "after sigmoid"),
    "one number": (ending(L.Dense(1)), "regression", "shape (1,)"),
    "cast": (ending(L.Dense(1), L.Activation("linear")), "regression", "shape (1,)"),
    "steps ahead": (ending(L.Dense(4), L.Reshape((4, 1))), "regression", "shape (4, 1)"),
    "autoencoder": (
        ending(L.Conv2D(4, 3, padding="same"), L.Conv2D(1, 3, padding="same"), shape=(8, 8, 1)),
        "autoencoder",
        "the shape of the input",
    ),
    "pixels": (
        ending(L.Conv2D(3, 1, activation="softmax"), shape=(8, 8, 1)), "segmentation", "softmax"
    ),
    "a mask": (
        ending(L.Conv2D(1, 1, activation="sigmoid"), shape=(8, 8, 3)), "segmentation", "sigmoid"
    ),
    "tokens": (
        ending(L.Embedding(20, 4), L.LSTM(4), L.Dense(3, "softmax"), **SEQUENCE),
        "classification", "softmax",
    ),
    "tags": (ending(L.Embedding(20, 4), L.Dense(5), **SEQUENCE), "tagging", "(6, 5)"),
    "next token": (
        ending(L.Embedding(20, 4), L.Dense(20), **SEQUENCE), "language_modeling", "(6, 20)"
    ),
    "vectors": (ending(L.Dense(4), L.UnitNormalization()), "retrieval", "length 1"),
    "nested": (ending(ending(L.Dense(3, "sigmoid"))), "multi_label", "sigmoid"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_an_output_shows_a_task(name: str) -> None:
    model, task, why = MODELS[name]
    found = guess_of_model(model)
    assert found.task is not None
    assert found.task.name == task
    assert why in found.why
    assert not found.compiled
    assert found.task.kind.labels in found.labels


def test_numbers_without_an_activation_may_be_logits() -> None:
    found = guess_of_model(ending(L.Dense(3)))
    assert found.task is None
    assert "3 numbers may be logits" in found.why
    assert found.labels == "labels: class numbers, or numbers in the shape of the output"


def test_every_output_shows_its_own() -> None:
    inputs = keras.Input((4,))
    heads = {"digit": L.Dense(3, "softmax", name="digit")(inputs),
             "box": L.Dense(1, name="box")(inputs)}  # fmt: skip
    found = guess_of_model(keras.Model(inputs, heads))
    assert found.task is not None
    assert {name: part.name for name, part in found.task.outputs.items()} == {
        "digit": "classification", "box": "regression"
    }  # fmt: skip
    assert "box: an output of shape (1,)" in found.why
    assert found.labels.startswith("labels, a dict: box: numbers in the shape")


def own_loss(labels, outputs):
    return keras.ops.mean((labels - outputs) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("loss", "task"),
    [("mse", "regression"), (keras.losses.BinaryCrossentropy(), "multi_label"), (own_loss, None)],
)
def test_a_loss_shows_more_than_the_outputs(loss, task: str | None) -> None:
    model = ending(L.Dense(3))
    model.compile("adam", loss)
    found = guess_of_model(model)
    assert found.compiled
    assert (found.task.name if found.task else None) == task


def test_an_output_without_a_loss_leaves_the_task_to_the_labels() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, [L.Dense(3, name="kind")(x), L.Dense(1, name="size")(x)])
    model.compile("adam", {"kind": "sparse_categorical_crossentropy"})
    found = guess_of_model(model)
    assert (found.task, found.compiled) == (None, True)
    assert found.why == "the loss sparse_categorical_crossentropy"
    model.compile("adam", "mse")
    assert list(guess_of_model(model).task.outputs) == ["kind", "size"]
