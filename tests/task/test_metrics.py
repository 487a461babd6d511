"""What the comparison with scikit-learn does not show; see tests/contract/test_tasks.py."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from tfprune.errors import DataError
from tfprune.task.answers import Answers, Reading, classes
from tfprune.task.metrics import METRICS


def test_a_class_that_a_later_batch_shows_first_is_counted() -> None:
    """Decisions do not tell how many classes there are."""
    tally = METRICS["balanced_accuracy"].tally()
    for truth, found in (([0, 0], [0, 0]), ([5, 1], [5, 0])):
        tally.add(classes(np.array(found), np.array(truth), Reading()))
    assert tally.value() == pytest.approx(2 / 3)


def test_perplexity_is_the_same_for_logits_and_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(30, 5)) * 3
    rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.arange(30) % 5
    values = []
    for outputs, are_logits in ((logits, True), (rows, False)):
        tally = METRICS["perplexity"].tally()
        tally.add(classes(outputs, truth, Reading(logits=are_logits)))
        values.append(tally.value())
    assert values[0] == pytest.approx(values[1])


def test_perplexity_of_a_wrong_certainty_is_finite() -> None:
    tally = METRICS["perplexity"].tally()
    tally.add(classes(np.array([[1.0, 0.0]]), np.array([1]), Reading(logits=False)))
    assert tally.value() == pytest.approx(1e7)


@pytest.mark.parametrize("found", [[[3.0], [3.0]], [[3.0], [4.0]]])
def test_r2_of_equal_labels_is_that_of_scikit_learn(found) -> None:
    tally = METRICS["r2"].tally()
    truth = np.full((2, 1), 3.0)
    tally.add(Answers(np.array(found), truth))
    assert tally.value() == r2_score(truth, found)


def test_r2_keeps_its_digits_far_from_zero() -> None:
    random = np.random.default_rng(0)
    truth = 1e8 + random.normal(size=(1000, 1))
    found = truth + 0.1 * random.normal(size=(1000, 1))
    tally = METRICS["r2"].tally()
    for start in range(0, 1000, 32):
        tally.add(Answers(found[start : start + 32], truth[start : start + 32]))
    assert tally.value() == pytest.approx(r2_score(truth, found), rel=1e-6)


@pytest.mark.parametrize("name", ["accuracy", "mean_iou", "f1", "perplexity"])
def test_labels_that_are_all_ignored_are_an_error(name: str) -> None:
    tally = METRICS[name].tally()
    tally.add(classes(np.eye(3), np.full(3, 7), Reading(ignore=7)))
    with pytest.raises(DataError, match="every one is ignored"):
        tally.value()
