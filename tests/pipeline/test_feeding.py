"""The data of a training, as `fit` takes them."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest

from tfprune.data.samples import Split
from tfprune.pipeline.datasets import Dataset, as_dataset
from tfprune.pipeline.feeding import Feeding

X = np.arange(40, dtype="float32").reshape(10, 4)
Y = np.arange(10) % 2


def model() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))


def in_batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, 10, 4):
        yield X[first : first + 4], Y[first : first + 4]


@pytest.fixture(params=["arrays", "stream"])
def data(request: pytest.FixtureRequest) -> Dataset:
    train = (X, Y) if request.param == "arrays" else in_batches
    return as_dataset((train, (X, Y), (X, Y)))


@pytest.mark.parametrize("done", [0, 1, 2])
def test_epochs_of_some_steps_leave_out_what_was_trained_on(data: Dataset, done: int) -> None:
    def batches(done: int, count: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        made = Feeding(model(), data, 4, 0).repeated(2, done, None)
        return [np.array(batch[0]) for batch in made["x"].take(count)]

    for one, other in zip(batches(done, 3), batches(0, 2 * done + 3)[2 * done :], strict=True):
        np.testing.assert_array_equal(one, other)


def test_classes_count_with_their_weights_in_every_form(data: Dataset) -> None:
    weights, results = {0: 1.0, 1: 0.0}, []
    for steps in (None, 3):
        keras.utils.set_random_seed(0)
        made = model()
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        feeding = Feeding(made, data, 4, 0)
        train = feeding.train(0, weights) if steps is None else feeding.repeated(3, 0, weights)
        history = keras.callbacks.History()
        feeding.fit(**train, **feeding.validation(), callbacks=[history], verbose=0)
        results.append(made.get_weights()[0])
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_a_set_is_read_in_batches_in_its_order(data: Dataset) -> None:
    found = list(data.train.batches(4))
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert all(isinstance(batch, Split) for batch in found)
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in found]), X)
