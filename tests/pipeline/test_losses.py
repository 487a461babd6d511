"""The loss of each task, and what a compiled model says."""

import keras
import numpy as np
import pytest

from tfprune.errors import OptionError
from tfprune.pipeline.datasets import Dataset, as_dataset
from tfprune.pipeline.losses import compiled_with, gives_probabilities, loss_for, task_of_model
from tfprune.pipeline.training import compile_model
from tfprune.task.task import TASKS, Task

L = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.random((12, 4)).astype("float32")


def model(*last: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), L.Dense(8, "relu"), *last])


def data_for(task: Task, labels: np.ndarray) -> Dataset:
    return as_dataset(((X, labels), (X, labels)), validation=0, task=task)


def test_a_single_logit_is_told_from_a_probability() -> None:
    """Its values may all be in [0, 1] by chance."""
    data = data_for(Task(), np.arange(12) % 2)
    small = model(L.Dense(1, kernel_initializer=keras.initializers.Constant(1e-3),
                          bias_initializer=keras.initializers.Constant(0.5)))  # fmt: skip
    found = small(X).numpy()
    assert found.min() > 0
    assert found.max() < 1
    assert not gives_probabilities(small, data)
    assert gives_probabilities(model(L.Dense(1, "sigmoid")), data)
    assert task_of_model(small, data).from_logits
    assert loss_for(data.task, small, data, None).get_config()["from_logits"]


LABELS = {
    "autoencoder": X, "anomaly": np.zeros(12, int), "regression": RANDOM.normal(size=(12, 4)),
    "multi_label": RANDOM.integers(0, 2, (12, 4)), "retrieval": np.arange(12) // 2,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TASKS if name != "custom"])
def test_every_task_can_be_trained(name: str) -> None:
    """A loss that falls: the labels, the outputs and the loss fit each other."""
    shape = {"tagging": (3, 4), "language_modeling": (3, 4), "segmentation": (3, 2, 4)}.get(name)
    labels = LABELS.get(name, RANDOM.integers(0, 4, (12, *(shape or [0])[:-1])))
    ends = [L.Dense(int(np.prod(shape))), L.Reshape(shape)] if shape else [L.Dense(4)]
    data, made = data_for(Task(name), labels), model(*ends)
    compile_model(made, data, "adam", 0.05, 1000)
    made.run_eagerly = True  # compiling the step takes longer than these steps
    targets = data.targets(data.train).y
    before, after = (
        made.fit(data.train.x, targets, epochs=epochs, verbose=0).history["loss"][-1]
        for epochs in (1, 60)
    )
    assert after < 0.9 * before


def test_the_loss_of_vectors_is_by_cosine_as_their_recall() -> None:
    data, made = data_for(Task("retrieval"), LABELS["retrieval"]), model(L.Dense(4))
    loss = loss_for(data.task, made, data, None)
    found = [loss(data.train.y, factor * np.asarray(made(data.train.x))) for factor in (1, 50)]
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_a_custom_task_needs_a_loss() -> None:
    task = Task("custom", metrics=[max], higher_is_better=True)
    data = data_for(task, X)
    with pytest.raises(OptionError, match="a custom task has no loss of its own"):
        loss_for(task, model(L.Dense(4)), data, None)
    with pytest.raises(OptionError, match="Keras has no loss 'msee'"):
        loss_for(Task("regression", loss="msee"), model(L.Dense(4)), data, None)


def test_a_model_that_is_not_compiled_says_nothing() -> None:
    assert compiled_with(model(L.Dense(2)), None) is None


@pytest.mark.parametrize(
    ("loss", "metrics", "width", "name", "titles"),
    [
        ("mse", ["mae"], 1, "regression", ["MAE"]),
        (keras.losses.Huber(), [], 1, "regression", ["MAE", "RMSE", "R²"]),
        ("sparse_categorical_crossentropy", ["accuracy"], 3, "classification", ["accuracy"]),
        (keras.losses.BinaryCrossentropy(), ["accuracy"], 3, "multi_label", ["label accuracy"]),
        ("binary_crossentropy", [keras.metrics.AUC()], 1, "classification", ["AUC"]),
    ],
)
def test_a_compiled_model_says_its_task(loss, metrics, width, name, titles) -> None:
    made = model(L.Dense(width))
    made.compile("sgd", loss, metrics=metrics)
    found = compiled_with(made, None)
    assert found is not None
    assert found.task.name == name
    assert [one.title for one in found.task.measures] == titles
    assert isinstance(found.optimizer, keras.optimizers.SGD)


def test_the_weights_of_several_losses_are_taken() -> None:
    inputs = keras.Input((4,))
    made = keras.Model(
        inputs, {"a": L.Dense(1, name="a")(inputs), "b": L.Dense(3, name="b")(inputs)}
    )
    made.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        {"a": "mse", "b": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        loss_weights={"a": 0.25, "b": 1.0},
        metrics={"b": ["accuracy", keras.metrics.TopKCategoricalAccuracy()]},
    )
    found = compiled_with(made, None)
    assert found.task.named == "a: regression, b: classification"
    assert [part.weight for part in found.task.outputs.values()] == [0.25, 1.0]
    assert found.task.outputs["b"].from_logits
    assert found.unknown == ("metric top_k_categorical_accuracy",)
    labels = {"a": RANDOM.normal(size=12), "b": np.arange(12) % 3}
    data = as_dataset(((X, labels), (X, labels)), task=found.task)
    compile_model(made, data, found.optimizer, 0.05, 10)
    assert float(made.optimizer.momentum) == 0.9


def test_a_loss_of_one_hot_labels_gets_them() -> None:
    made = model(L.Dense(3, "softmax"))
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)
    made.compile("adam", loss)
    truth = np.arange(12) % 3
    task = compiled_with(made, None).task
    found = loss_for(task, made, data_for(task, truth), None)(truth, made(X))
    assert float(np.mean(found)) == pytest.approx(float(loss(np.eye(3)[truth], made(X))))
