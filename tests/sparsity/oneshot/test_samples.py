from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.errors import DataError
from tfprune.sparsity.oneshot.samples import count_samples, read_samples

L = keras.layers


def one_input() -> keras.Model:
    return keras.Sequential([keras.Input((4,), name="x"), L.Dense(2)], name="one")


def two_inputs(structure: type = list) -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = L.Concatenate()([L.Dense(2)(a), L.Dense(2)(b)])
    inputs = {"b": b, "a": a} if structure is dict else [a, b]
    return keras.Model(inputs, joined, name="two")


X = np.arange(40.0, dtype="float32").reshape(10, 4)
B = np.ones((10, 3), "float32")


def sizes(batches: list[Any]) -> list[int]:
    return [count_samples(batch) for batch in batches]


def test_arrays_are_cut_into_batches() -> None:
    batches = read_samples(one_input(), X, 4)
    assert sizes(batches) == [4, 4, 2]
    assert np.array_equal(np.concatenate(batches), X)
    assert sizes(read_samples(one_input(), tf.constant(X), 10)) == [10]


def test_datasets_come_in_their_own_batches_and_labels_are_ignored() -> None:
    labels = np.zeros(10)
    pairs = tf.data.Dataset.from_tensor_slices((X, labels)).batch(6)
    assert sizes(read_samples(one_input(), pairs, 1)) == [6, 4]
    alone = tf.data.Dataset.from_tensor_slices(X).batch(6)
    assert np.array_equal(np.concatenate(read_samples(one_input(), alone, 1)), X)
    assert sizes(read_samples(one_input(), (X[i : i + 5] for i in (0, 5)), 1)) == [5, 5]


class Pieces(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return X[5 * index : 5 * index + 5], np.zeros(5)


def test_a_pydataset_is_read_to_its_end() -> None:
    assert sizes(read_samples(one_input(), Pieces(), 1)) == [5, 5]


@pytest.mark.parametrize("data", [[X, B], (X, B), {"a": X, "b": B}])
def test_several_inputs(data: Any) -> None:
    model = two_inputs()
    (batch,) = read_samples(model, data, 10)
    assert model(batch).shape == (10, 4)
    assert np.array_equal(batch[1], B)


def test_inputs_in_a_dict() -> None:
    model = two_inputs(dict)
    (batch,) = read_samples(model, {"b": B, "a": X}, 10)
    assert np.array_equal(batch["a"], X)
    assert model(batch).shape == (10, 4)
    (listed,) = read_samples(model, [X, B], 10)
    assert np.array_equal(listed["b"], B)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.head = L.Dense(2)

    def call(self, x: Any) -> Any:
        return self.head(x)


def test_a_model_that_declares_no_inputs_is_given_what_there_is() -> None:
    assert sizes(read_samples(Subclassed(), X, 5)) == [5, 5]


NAN = np.where(np.arange(40).reshape(10, 4) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X[:0], "holds no sample; give a few hundred"),
        ([], "holds no sample; give a few hundred"),
        (iter([X[:0]]), "holds an empty batch"),
        (NAN, "holds 1 values that are NaN or infinite"),
        (np.full((2, 4), np.inf), "8 values that are NaN"),
        (np.ones((2, 5)), r"the input 'x' takes samples of shape \(4,\). Received \(5,\)"),
        ((X, np.zeros(10)), "holds 2 arrays, but the model 'one' has 1 input; samples go without"),
        ({"y": X}, r"has the keys \['y'\], but the inputs of the model 'one' are \['x'\]"),
        (7, "expected an array of samples, a list or dict of arrays, or a dataset"),
        ("samples", "Received str"),
        (tf.data.Dataset.from_tensors(X).repeat(), r"never ends; pass data.take\(batches\)"),
    ],
)
def test_wrong_data_is_one_line_that_says_so(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_samples(one_input(), data, 4)
    assert "\n" not in str(caught.value)


def test_inputs_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"differ in samples: \[7, 10\]"):
        read_samples(two_inputs(), [X, B[:7]], 4)
