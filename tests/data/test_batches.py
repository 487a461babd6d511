"""Data in any usual form, as batches, and a clear line for any other."""

from typing import Any

import numpy as np
import pytest

from tfprune.data.batches import first_samples, one_batch, read
from tfprune.data.model_inputs import ModelInputs, OneInput
from tfprune.errors import DataError, OptionError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.integers(0, 2, 40)


def takes(count: int) -> ModelInputs:
    inputs = tuple(OneInput(name, (None, 4), "float32") for name in "abc"[:count])
    return ModelInputs(inputs, list(range(count)) if count > 1 else 0)


ONE, TWO = takes(1), takes(2)


def batches(data: Any, wanted: ModelInputs | None = ONE, option: str = "data", **options) -> list:
    return list(read(data, wanted, option, **options))


def test_every_usual_form() -> None:
    import tensorflow as tf

    assert [batch.size for batch in batches((X, Y))] == [32, 8]
    assert batches(X)[0].labels is None
    assert len(batches(tf.data.Dataset.from_tensor_slices((X, Y)).batch(10))) == 4
    assert [set(batch.inputs) for batch in batches({"a": X}, None)] == [{"a"}, {"a"}]
    pairs = batches([X, X], TWO)
    assert [[len(part) for part in batch.inputs] for batch in pairs] == [[32, 32], [8, 8]]
    assert [len(batch.inputs) for batch in batches([X, X])] == [40, 40]
    labels = batches((X, [Y, Y]))[1].labels
    assert [len(part) for part in labels] == [8, 8]


class Pieces:
    """The parts of a keras.utils.PyDataset that are used."""

    num_batches: int | None = 2  # Keras allows None here, which is without end

    def __getitem__(self, index: int):
        return X[:20], Y[:20], np.ones(20)


def test_weights_of_samples_are_read() -> None:
    import tensorflow as tf

    weights = np.arange(40)
    whole = tf.data.Dataset.from_tensor_slices((X, Y, weights)).batch(32)
    for data in ((X, Y, weights), whole, list(whole)):
        last = batches(data)[1]
        np.testing.assert_array_equal(last.weights, weights[32:])
        assert last.size == 8
    assert [batch.size for batch in batches(Pieces())] == [20, 20]
    # Batches of three inputs are a list or a tuple in a tuple; three batches in a tuple are that.
    assert batches(iter([[X, X, X]]), takes(3))[0].labels is None
    assert batches([((X, X, X),)], takes(3))[0].labels is None
    assert len(batches(((X, Y), (X, Y), (X, Y)))) == 3


def test_arrays_are_cut_into_batches_without_losing_a_sample() -> None:
    found = batches((X, Y), size=16)
    assert [(batch.first, batch.size) for batch in found] == [(0, 16), (16, 16), (32, 8)]
    np.testing.assert_array_equal(np.concatenate([batch.inputs for batch in found]), X)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in found]), Y)


def test_single_samples_are_collected_in_batches() -> None:
    import tensorflow as tf

    for data in (
        tf.data.Dataset.from_tensor_slices((X, Y)),
        zip(X, Y, strict=True),
        lambda: zip(X, Y, strict=True),
        [(x, y) for x, y in zip(X.tolist(), Y, strict=True)],
        [(X[:10], Y[:10]), *zip(X[10:], Y[10:], strict=True)],
    ):
        found = batches(data)
        np.testing.assert_array_equal(np.concatenate([batch.inputs for batch in found]), X)
        np.testing.assert_array_equal(np.concatenate([batch.labels for batch in found]), Y)
    assert [(batch.first, batch.size) for batch in found] == [(0, 10), (10, 30)]
    with pytest.raises(DataError, match="some samples have labels or weights and others do not"):
        batches([(X[0], Y[0]), (X[1],)])


def test_memory_mapped_arrays_are_read_one_batch_at_a_time(tmp_path) -> None:
    np.save(tmp_path / "x.npy", X)
    data = np.load(tmp_path / "x.npy", mmap_mode="r")
    first = next(read(data, ONE, "data"))
    assert np.shares_memory(first.inputs, data)


def test_endless_data_is_refused_where_all_of_it_is_read() -> None:
    import tensorflow as tf

    endless = tf.data.Dataset.from_tensor_slices(X).batch(10).repeat()
    pieces = Pieces()
    pieces.num_batches = None
    for data in (endless, pieces):
        with pytest.raises(DataError, match=r"data=: the data is endless .* data\.take\(100\)"):
            batches(data)
        (samples,), total = first_samples(data, ONE, "data", 25)
        assert (samples.shape, total) == ((25, 4), None)


def test_ignored_labels_may_be_anything() -> None:
    assert batches([(X, "boxes")], labels="ignored")[0].labels is None
    assert batches((X, Y[:3]), labels="ignored")[0].size == 32
    with pytest.raises(DataError, match=r"data=: there are no labels; give \(inputs, labels\)"):
        batches(X, labels="needed")
    with pytest.raises(DataError, match="there are no labels"):
        batches([X, X], labels="needed")


def with_hole(value: float) -> np.ndarray:
    holed = X.copy()
    holed[[36, 38], 1] = value
    return holed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "repair=: the data is missing; give .*inputs, labels."),
        ("x", "Received str"),
        (3, "Received int"),
        ([], "repair= is empty: give at least one sample"),
        (iter([]), "repair= is empty"),
        (iter([X[:0]]), "repair= is empty"),
        (([], []), "repair= is empty"),
        ((X[:0], Y[:0]), "repair= is empty"),
        ((X, Y[:3]), "of one length.* Received 40 inputs, 3 labels"),
        (iter([(X, Y[:9])]), "of one length.* Received 40 inputs, 9 labels"),
        ((X, 3), "a single number"),
        ((with_hole(np.nan), Y), "repair= holds NaN or infinity in sample 36"),
        ((with_hole(-np.inf), Y), "repair= holds NaN or infinity in sample 36"),
        ([X, with_hole(np.nan)], "in sample 76"),
        ([X[0], X[1][:3]], r"samples of different shapes: \[\(3,\), \(4,\)\]; pad them to one"),
        ((X, Y, Y, Y), r"a tuple is \(inputs,\), .* Received one of 4; give batches as a list"),
        (lambda batch: X, "a function that returns samples must take no arguments"),
        (([X[0], X[0, :3]], Y), "the model takes 1 input. Received 2"),
        ([[0.0, 1.0], [0.0]], "samples of different shapes in a list; pad them to one"),
    ],
)
def test_data_of_an_unknown_form_is_refused(data, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        batches(data, option="repair")
    assert "\n" not in str(caught.value)


def test_one_batch_is_inputs_alone() -> None:
    for inputs in ((X, X), [X, X], {"b": X, "a": X}):
        assert [array.shape for array in one_batch(inputs, TWO, "x")] == [(40, 4)] * 2
    with pytest.raises(DataError, match="x=: the model takes 2 inputs. Received 1"):
        one_batch(X, TWO, "x")
    with pytest.raises(DataError, match="x=: expected arrays of one length"):
        one_batch((X, X[:3]), TWO, "x")
    with pytest.raises(DataError, match="x= is empty"):
        one_batch(X[:0], ONE, "x")


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None])
def test_an_invalid_batch_size_is_refused(size) -> None:
    with pytest.raises(OptionError, match="batch_size: expected a whole number >= 1. Received"):
        batches((X, Y), size=size)


def test_the_first_samples_are_thinned_if_they_are_arrays() -> None:
    labeled = (np.arange(40.0)[:, None] * np.ones(4), "labels are not read")
    (samples,), total = first_samples(labeled, ONE, "data", 4)
    assert (samples[:, 0].tolist(), total) == ([0.0, 13.0, 26.0, 39.0], 40)
    with pytest.raises(DataError, match="in sample 36"):
        first_samples(with_hole(np.nan), ONE, "data", 40)
