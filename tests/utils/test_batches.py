"""Data in any usual form, and a clear line for any other."""

import keras
import numpy as np
import pytest

from tfprune.errors import DataError
from tfprune.utils.batches import as_batches

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.integers(0, 2, 40)


def test_every_usual_form() -> None:
    import tensorflow as tf

    assert [batch.size for batch in as_batches((X, Y), "data")] == [32, 8]
    assert as_batches(X, "data")[0].labels is None
    assert len(as_batches(tf.data.Dataset.from_tensor_slices((X, Y)).batch(10), "data")) == 4
    assert [set(batch.inputs) for batch in as_batches({"a": X}, "data")] == [{"a"}, {"a"}]
    pairs = as_batches([X, X], "data", 2)
    assert [[len(part) for part in batch.inputs] for batch in pairs] == [[32, 32], [8, 8]]
    assert [len(batch.inputs) for batch in as_batches([X, X], "data", 1)] == [40, 40]
    labels = as_batches((X, [Y, Y]), "data")[1].labels
    assert [len(part) for part in labels] == [8, 8]


class Pieces(keras.utils.PyDataset):
    num_batches: int | None = 2  # Keras allows None here, which is without end

    def __getitem__(self, index: int):
        return X[:20], Y[:20], np.ones(20)


def test_weights_of_samples_come_along() -> None:
    import tensorflow as tf

    weights = np.arange(40)
    whole = tf.data.Dataset.from_tensor_slices((X, Y, weights)).batch(32)
    for data in ((X, Y, weights), whole, list(whole)):
        last = as_batches(data, "data")[1]
        np.testing.assert_array_equal(last.weights, weights[32:])
        assert last.size == 8
    assert [batch.size for batch in as_batches(Pieces(), "data")] == [20, 20]
    # Batches of three inputs, and three batches in a tuple, are what they were.
    assert as_batches([(X, X, X)], "data", 3)[0].labels is None
    assert len(as_batches(((X, Y), (X, Y), (X, Y)), "data")) == 3


def test_data_without_end_is_refused() -> None:
    import tensorflow as tf

    endless = tf.data.Dataset.from_tensor_slices(X).batch(10).repeat()
    pieces = Pieces()
    pieces.num_batches = None
    for data in (endless, pieces):
        with pytest.raises(DataError, match=r"data=: the data has no end .* data\.take\(100\)"):
            as_batches(data, "data")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "repair=: there is none; give .inputs, labels."),
        ("x", "Received str"),
        (3, "Received int"),
        ([], "repair= is empty: it gives no batch"),
        (([], []), "repair= is empty: it has no sample"),
        ((X[:0], Y[:0]), "repair= is empty: it has no sample"),
        ((X, Y[:3]), r"of one length .* Received lengths \[3, 40\]"),
    ],
)
def test_what_is_none_of_these_is_said(data, message) -> None:
    with pytest.raises(DataError, match=message):
        as_batches(data, "repair")
