"""AUC in bounded memory, and nearest neighbors."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tfprune.errors import DataError
from tfprune.task import ranking
from tfprune.task.answers import Answers
from tfprune.task.ranking import Curve, Neighbors


def test_beyond_its_memory_the_curve_is_nearly_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "MOST_SCORES", 500)
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 20_000)
    found = random.normal(size=20_000) + truth
    curve = Curve()
    for start in range(0, 20_000, 100):
        part = slice(start, start + 100)
        curve.add(Answers(found[part], truth[part]))
    assert curve.value() == pytest.approx(roc_auc_score(truth, found), abs=2e-3)
    assert len(curve.scores) <= 500


def test_a_curve_needs_both_classes_and_at_most_two() -> None:
    curve = Curve()
    curve.add(Answers(np.ones(3), np.ones(3)))
    with pytest.raises(DataError, match="samples of both classes"):
        curve.value()
    with pytest.raises(DataError, match="the output has 3"):
        curve.add(Answers(np.ones(2), np.ones(2), np.ones((2, 3)), 3))


def test_samples_without_a_partner_are_not_asked() -> None:
    vectors = np.array([[1.0, 0], [1, 0.1], [0, 1], [-1, 0]])
    recall = Neighbors(1)
    recall.add(Answers(vectors, np.array([0, 0, 1, 2])))
    assert recall.value() == 1.0
    recall = Neighbors(1)
    recall.add(Answers(vectors, np.arange(4)))
    with pytest.raises(DataError, match="no two samples are of one group"):
        recall.value()
