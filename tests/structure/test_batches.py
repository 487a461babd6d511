"""Data in any usual form, and a clear line for any other."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import DataError
from tfprune.structure.batches import as_batches, flat_inputs
from tfprune.structure.units import units

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.integers(0, 2, 40)


def net() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, kl.Dense(2)(kl.Dense(16, name="h")(inputs)))


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


def test_inputs_by_name_are_not_taken_in_the_order_of_the_alphabet() -> None:
    z, a = keras.Input((4,), name="z"), keras.Input((4,), name="a")
    x = kl.Dense(16, name="h")(kl.Concatenate()([z, a]))
    graph = units(keras.Model([z, a], kl.Dense(2)(x))).graph
    first, _ = flat_inputs(graph, {"a": X, "z": 2 * X})
    np.testing.assert_array_equal(first, 2 * X)
    with pytest.raises(DataError, match="data=: no input 'z'"):
        flat_inputs(graph, {"a": X, "b": X})


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


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X[:, :3], r"expected a batch of shape \(None, 4\). Received \(40, 3\)"),
        (X[0], r"expected a batch of shape \(None, 4\). Received \(4,\)"),
        ([X, X], "the model takes 1 inputs. Received 2"),
        (X * np.nan, "repair= holds NaN or infinity"),
    ],
)
def test_a_batch_has_to_be_what_the_model_takes(inputs, message) -> None:
    with pytest.raises(DataError, match=message):
        flat_inputs(units(net()).graph, inputs, "repair")


@pytest.mark.parametrize("option", ["repair", "data"])
def test_two_inputs_are_given_as_a_list_or_by_name(option: str) -> None:
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    x = kl.Dense(16, activation="relu", name="h")(one) + kl.Dense(16)(two)
    for inputs, data in (
        ([one, two], [X, 2 * X]),
        ({"one": one, "two": two}, {"two": 2 * X, "one": X}),
    ):
        model = keras.Model(inputs, kl.Dense(2)(x))
        small, report = tfprune.shrink(
            model, {"channels": 0.5}, importance="activation" if option == "data" else "l2",
            **{option: data},
        )  # fmt: skip
        assert report.error <= 1e-5
        assert small.get_layer("h").units == 8
    with pytest.raises(DataError, match="no input 'two'. Received"):
        tfprune.shrink(model, {"channels": 0.5}, repair={"one": X, "c": X})


def test_nothing_is_repaired_with_data_that_is_not_finite() -> None:
    with pytest.raises(DataError, match="repair= holds NaN"):
        tfprune.shrink(net(), {"channels": 0.5}, repair=X * np.nan, verify=False)
    with pytest.raises(DataError, match="data= holds NaN"):
        tfprune.shrink(net(), {"channels": 0.5}, importance="activation", data=X * np.nan)
