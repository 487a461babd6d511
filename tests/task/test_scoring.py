"""Scores batch by batch: several outputs, and what only outputs tell."""

import numpy as np
import pytest

from tfprune.errors import DataError
from tfprune.task.scoring import Scoring, settled
from tfprune.task.task import Task


def test_logits_are_told_from_the_outputs() -> None:
    rows = {"out": np.array([[0.25, 0.75], [0.5, 0.5]])}
    assert settled(Task(), rows).from_logits is False
    assert settled(Task(), {"out": rows["out"] * 3}).from_logits is True
    assert settled(Task("multi_label"), {"out": np.array([[-1.0, 2.0]])}).from_logits is True
    assert settled(Task(from_logits=True), rows).from_logits is True
    single = {"out": np.array([[3.0]])}
    assert settled(Task(), single).from_logits is None


def test_outputs_are_scored_by_their_own_tasks() -> None:
    task = Task(outputs={"a": "classification", "b": Task("regression", metrics=["mae"])})
    scoring = Scoring(task)
    outputs = {"b": np.array([[1.0], [2.0]]), "a": np.eye(2)}
    scoring.add(outputs, {"a": np.array([0, 0]), "b": np.array([1.0, 1.0])}, None, 0)
    assert scoring.values() == (0.5, 0.5)
    with pytest.raises(DataError, match="expected a dict with those of output 'a'"):
        scoring.add(outputs, np.zeros(2), None, 0)


def test_an_anomaly_is_what_is_not_reproduced() -> None:
    scoring = Scoring(Task("anomaly"))
    inputs = np.zeros((4, 3))
    outputs = inputs + np.array([0.1, 0.9, 0.2, 0.8])[:, None]
    scoring.add({"out": outputs}, np.array([0, 1, 0, 1]), [inputs], 0)
    assert scoring.values() == (1.0,)
    with pytest.raises(DataError, match="has one input. Received 2"):
        scoring.add({"out": outputs}, np.zeros(4), [inputs, inputs], 0)


def test_one_class_is_told() -> None:
    scoring = Scoring(Task("segmentation"))
    scoring.add({"out": np.ones((2, 3, 3, 2))}, np.zeros((2, 3, 3), int), None, 0)
    assert scoring.one_class() == "all 18 labels are 0: mean IoU does not cover the other classes"
