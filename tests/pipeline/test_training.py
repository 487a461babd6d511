"""Training is reproducible, reports progress, and stops when the loss is not finite."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import pytest

from tfprune.errors import DataError, TrainingError
from tfprune.pipeline.datasets import Dataset, as_dataset
from tfprune.pipeline.losses import gives_probabilities
from tfprune.pipeline.training import compile_model, fit


class Steps:
    """A task that counts."""

    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, steps: float = 1) -> None:
        self.done += steps


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    return as_dataset(((x, y), (x, y)), validation=0.2)


def model(activation: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.2)]
    return keras.Sequential([*layers, keras.layers.Dense(2, activation)])


@contextmanager
def compiled(data: Dataset, rate: float = 0.05) -> Iterator[keras.Model]:
    made = model()
    compile_model(made, data, "adam", rate, 3 * 5)
    yield made


def test_probabilities_are_told_from_logits(data: Dataset) -> None:
    assert gives_probabilities(model("softmax"), data)
    assert not gives_probabilities(model(), data)
    assert not gives_probabilities(model("sigmoid"), data)


def test_the_loss_is_the_same_for_both(data: Dataset) -> None:
    losses = []
    for activation in (None, "softmax"):
        made = model(activation)
        compile_model(made, data, "sgd", 0.1, 10)
        losses.append(made.evaluate(data.train.x, data.train.y, verbose=0)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_training_learns_counts_its_steps_and_repeats_bit_for_bit(data: Dataset) -> None:
    curves, weights, task = [], [], Steps()
    for _ in range(2):
        with compiled(data) as made:
            curves.append(fit(made, data, epochs=3, batch_size=10, task=task))
            weights.append(made.get_weights())
    assert task.done == 2 * 3 * 5
    assert curves[0] == curves[1]
    assert set(curves[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert curves[0]["loss"][-1] < curves[0]["loss"][0]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_learning_rate_ends_at_zero(data: Dataset) -> None:
    with compiled(data) as made:
        fit(made, data, epochs=3, batch_size=10, task=Steps())
        assert float(made.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-9)


def test_a_dataset_that_ends_in_a_later_epoch_is_one_line(data: Dataset) -> None:
    import tensorflow as tf

    left = [10, 10]

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rows = data.train.rows(slice(left.pop() if training else None))
        yield from ((rows.x[at : at + 10], rows.y[at : at + 10]) for at in range(0, len(rows), 10))

    training = False
    kinds = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=kinds)
    streamed = as_dataset((dataset, data.test.given), validation=0)
    assert streamed.train.steps(10) == 5
    assert len(streamed.train.head) == 48
    training = True
    with compiled(streamed) as made, pytest.raises(
        DataError, match="^data: a dataset was expected to contain 5 elements but contained only 1;"
    ):  # fmt: skip
        fit(made, streamed, epochs=3, batch_size=10, task=Steps())


def test_training_that_fails_says_so(data: Dataset) -> None:
    made = model()
    compile_model(made, data, "sgd", 1e30, 15)
    with pytest.raises(TrainingError, match="training diverged. Lower learning_rate"):
        fit(made, data, epochs=3, batch_size=10, task=Steps())
