"""Batches without an end continue after those that were trained on."""

import keras
import numpy as np
import pytest

from tfprune.training.batches import repeated_batches


@pytest.mark.parametrize("done", [0, 3, 7])
def test_what_was_trained_on_is_left_out(done: int) -> None:
    x = np.arange(10, dtype="float32")[:, None]

    def batches(done: int, count: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        found = repeated_batches(x, x, 4, None, done).take(count)
        return [np.array(inputs) for inputs, _ in found]

    for one, other in zip(batches(done, 4), batches(0, done + 4)[done:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_classes_count_with_their_weights() -> None:
    labels = np.arange(4)
    (batch,) = repeated_batches(labels, labels, 4, {0: 1.0, 1: 2.0, 2: 0.5, 3: 0.0}, 0).take(1)
    np.testing.assert_array_equal(batch[2], np.array([1, 2, 0.5, 0])[np.array(batch[1])])
