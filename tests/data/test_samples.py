"""Samples in memory: one structure for inputs, labels and weights, checked in one line."""

import hashlib
from typing import Any

import numpy as np
import pytest

from tfprune.data.samples import Split, as_arrays, checked
from tfprune.errors import DataError

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.arange(6)


def test_rows_are_taken_of_every_array() -> None:
    split = Split({"a": X, "b": [X, X]}, {"y": Y}, None).rows(slice(2))
    assert [len(array) for array in split.arrays()] == [2, 2, 2, 2]
    assert len(split) == 2
    assert split.given == (split.x, split.y)
    assert Split(X, Y, Y).given[2] is Y


def test_the_last_batch_of_an_epoch_may_be_short() -> None:
    assert [Split(X, Y).steps(size) for size in (6, 5, 1)] == [1, 2, 6]


def test_some_are_drawn_in_order_and_the_same_each_time() -> None:
    one, two = Split(X, Y).some(3, 0), Split(X, Y).some(3, 0)
    np.testing.assert_array_equal(one.y, two.y)
    assert sorted(set(one.y.tolist())) == one.y.tolist()
    assert len(Split(X, Y).some(100, 0)) == 6


def test_a_fingerprint_is_of_every_sample() -> None:
    def of(x: Any, w: Any = None) -> str:
        digest = hashlib.sha256()
        assert Split(x, Y, w).fingerprint(digest, "train") == ""
        return digest.hexdigest()

    other = X.copy()
    other[5, 1] = 0
    assert of(X) == of(X.copy())
    assert len({of(X), of(other), of(X, Y)}) == 3


def test_a_list_of_arrays_is_of_inputs_or_of_examples() -> None:
    several = as_arrays(Split([X, X[:, :1]], Y), "data")
    assert [array.shape for array in several.x] == [(6, 2), (6, 1)]
    assert isinstance(as_arrays(Split((X[:2], X[:2, :1]), Y[:2]), "data").x, tuple)
    examples = as_arrays(Split(list(X), Y.tolist()), "data")
    np.testing.assert_array_equal(examples.x, X)
    np.testing.assert_array_equal(examples.y, Y)


def test_weights_are_32_bits_for_every_output() -> None:
    split = checked(Split(X, {"a": Y, "b": Y}, np.ones(6)), "data", 1.0)
    assert {name: w.dtype.name for name, w in split.w.items()} == {"a": "float32", "b": "float32"}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(X, Y, np.ones(5)), "data: 6 examples but 5 weights. Give as many of each."),
        (Split(X, Y, -np.ones(6)), "data: expected one weight >= 0 for each example."),
        (Split(X, Y, np.ones((6, 2))), "data: expected one weight >= 0 for each example."),
        (Split(X, Y, np.full(6, np.nan)), "data: weights hold NaN, 6 of 6"),
        (Split({"a": X, "b": X[:4]}, Y), "data: 6 examples but 4 examples."),
        (Split(X, np.array(["a"] * 6)), "data: labels of type <U1; expected numbers"),
    ],
)
def test_wrong_samples_are_one_line(split: Split, message: str) -> None:
    with pytest.raises(DataError) as error:
        checked(split, "data", 1.0)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
