"""Outputs and labels in the form that metrics read, and wrong labels in one line."""

import numpy as np
import pytest

from tfprune.errors import DataError
from tfprune.task.answers import (
    Reading,
    classes,
    decisions,
    embeddings,
    numbers,
    reconstruction_error,
    scores,
)

PLAIN = Reading()


def right(outputs: np.ndarray, labels: np.ndarray, reading: Reading = PLAIN) -> list:
    found = classes(outputs, labels, reading)
    return (found.found == found.truth).tolist()


def test_classes_match_a_calculation_by_hand() -> None:
    outputs = np.array([[0.2], [0.7], [0.5]])
    assert right(outputs, np.array([0, 1, 1])) == [True, True, False]
    pixels = np.array([[[0.9, 0.1], [0.2, 0.8]]])
    assert right(pixels, np.array([[0, 0]])) == [[True, False]]
    logits = np.array([[-3.0], [0.3]])
    assert right(logits, np.array([0, 1]), Reading(logits=True)) == [True, True]


def test_ignored_labels_are_not_counted() -> None:
    outputs = np.eye(3)[[0, 1, 2, 0]]
    found = classes(outputs, np.array([0, 9, 2, 9]), Reading(ignore=9))
    assert found.found.tolist() == [0, 2]
    assert len(found.scores) == 2
    with pytest.raises(DataError, match="labels: 9 at sample 6 is out of range"):
        classes(outputs, np.array([0, 9, 2, 9]), Reading(ignore=-1), first=5)


def test_numbers_take_labels_with_and_without_a_last_axis() -> None:
    for labels in (np.arange(3.0), np.arange(3.0)[:, None]):
        assert numbers(np.ones((3, 1)), labels, PLAIN).truth.tolist() == [[0], [1], [2]]
    assert numbers(np.ones(3), np.arange(3.0)[:, None], PLAIN).found.shape == (3, 1)


@pytest.mark.parametrize(
    ("form", "outputs", "labels", "message"),
    [
        (numbers, np.ones((3, 2)), np.ones((3, 4)), r"expected the shape \(3, 2\)"),
        (numbers, np.ones((3, 1)), np.array(["a", "b", "c"]), "expected numbers. Received <U1"),
        (numbers, np.array([[1.0], [np.nan]]), np.ones((2, 1)), "NaN or infinity in sample 8"),
        (decisions, np.ones((2, 3)), np.array([[0, 1, 1], [0, 2, 0]]), "2 at sample 8; expected 0"),
        (decisions, np.ones((2, 3)), np.ones((2, 4)), r"expected the shape \(2, 3\)"),
        (scores, np.ones((2, 3)), np.ones(2), "expected one label, 0 or 1, for each sample"),
        (scores, np.ones(2), np.array([0, 3]), "3 at sample 8; expected 0 or 1"),
        (embeddings, np.ones((2, 3)), np.ones((2, 2)), "one group number for each"),
        (embeddings, np.ones((2, 3)), np.array([0.5, 1]), "expected class numbers"),
    ],
)
def test_wrong_labels_are_one_line(form, outputs, labels, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        form(outputs, labels, PLAIN, first=7)
    assert "\n" not in str(caught.value)


def test_the_error_of_an_autoencoder_is_that_of_each_sample() -> None:
    inputs = np.zeros((2, 2, 2))
    outputs = np.stack([np.zeros((2, 2)), np.full((2, 2), 3.0)])
    assert reconstruction_error(outputs, inputs).tolist() == [0, 9]
    with pytest.raises(DataError, match=r"the shape of its input, \(2, 2, 2\)"):
        reconstruction_error(outputs[:, 0], inputs)
