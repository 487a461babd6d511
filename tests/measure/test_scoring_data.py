"""Data in batches: what is taken, and what is refused in one line."""

import numpy as np
import pytest

from tfprune.errors import DataError, OptionError
from tfprune.measure.scoring_data import batches

X = np.arange(20.0, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)


def test_arrays_are_cut_into_batches_and_nothing_is_lost() -> None:
    found = list(batches((X, Y), 4))
    assert [(batch.first, batch.size) for batch in found] == [(0, 4), (4, 4), (8, 2)]
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in found]), X)
    np.testing.assert_array_equal(np.concatenate([batch.y for batch in found]), Y)


def test_lists_several_inputs_and_named_inputs_are_taken() -> None:
    assert [batch.size for batch in batches(([[1.0], [2.0]], [0, 1]))] == [2]
    (named,) = batches(({"a": X, "b": X[:, :1]}, Y))
    assert {name: array.shape for name, array in named.x.items()} == {"a": (10, 2), "b": (10, 1)}
    first, _ = batches(((X, X), Y), 5)
    assert [array.shape for array in first.x] == [(5, 2), (5, 2)]


def test_a_dataset_gives_its_own_batches() -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)
    assert [(batch.first, batch.size) for batch in batches(dataset)] == [
        (0, 3), (3, 3), (6, 3), (9, 1),
    ]  # fmt: skip
    weighted = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(10))).batch(10)
    assert [batch.size for batch in batches(weighted)] == [10]


def with_hole(value: float) -> np.ndarray:
    holed = X.copy()
    holed[[6, 8], 1] = value
    return holed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X[:0], Y[:0]), "data: empty"),
        (iter([]), "data: empty"),
        ((X, Y[:9]), "10 inputs with 9 labels"),
        (iter([(X, Y[:9])]), "10 inputs with 9 labels"),
        ((with_hole(np.nan), Y), "data: sample 6 holds NaN or infinity"),
        ((with_hole(-np.inf), Y), "data: sample 6 holds NaN or infinity"),
        (X, r"expected a pair \(x, y\).* Received numpy.ndarray"),
        ("digits", r"expected a pair \(x, y\).* Received str"),
        (3, r"expected a pair \(x, y\).* Received int"),
        (iter([X]), "an element of type numpy.ndarray"),
        ((X, 3), "a single number"),
    ],
)
def test_a_fault_is_one_line(data, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(batches(data, 4))
    assert "\n" not in str(caught.value)


def test_what_would_never_end_ends_or_is_refused() -> None:
    import keras
    import tensorflow as tf

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[5 * index : 5 * index + 5], Y[5 * index : 5 * index + 5]

    assert [batch.first for batch in batches(Batches())] == [0, 5]
    with pytest.raises(DataError, match=r"has no end; leave out repeat\(\)"):
        next(batches(tf.data.Dataset.from_tensor_slices((X, Y)).batch(5).repeat()))


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None])
def test_a_batch_size_that_is_none_is_refused(size) -> None:
    with pytest.raises(OptionError, match="batch_size: expected a whole number >= 1. Received"):
        next(batches((X, Y), size))
