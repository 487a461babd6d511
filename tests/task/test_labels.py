"""Labels of each task, and models that do not fit them."""

import numpy as np
import pytest

from tfprune.errors import DataError
from tfprune.task.labels import check_learnable, check_output, labels_for, width_of
from tfprune.task.task import Task

X = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("task", "given", "shape", "kind"),
    [
        (Task("classification"), np.eye(4), (4,), "i"),
        (Task("classification"), np.arange(4.0)[:, None], (4,), "i"),
        (Task("regression"), np.arange(4), (4, 1), "i"),
        (Task("regression"), np.ones((4, 2)), (4, 2), "f"),
        (Task("multi_label"), np.eye(4, dtype=int), (4, 4), "f"),
        (Task("segmentation"), np.zeros((4, 5, 5, 1), np.uint8), (4, 5, 5), "i"),
        (Task("tagging", ignore=-1), np.full((4, 6), -1), (4, 6), "i"),
        (Task("autoencoder"), np.arange(4), (4, 3), "f"),
        (Task("anomaly"), np.zeros((4, 1)), (4,), "f"),
        (Task("retrieval"), np.arange(4)[:, None], (4,), "i"),
    ],
    ids=str,
)
def test_labels_have_the_form_of_the_task(task, given, shape, kind) -> None:
    found = labels_for(task, given, X, "data")
    assert (found.shape, found.dtype.kind) == (shape, kind)


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        (Task(), np.array([0, 1, 2, 0.5]), "data has label 0.5 at example 3. Class numbers are"),
        (Task(), np.ones((4, 3)), r"of shape \(4, 3\) are not one-hot.* such as multi_label"),
        (Task("multi_label"), np.full((4, 3), 2), "label 2 at example 0. multi_label takes 0 or 1"),
        (Task("segmentation"), np.full((4, 2, 2), -1), "data has label -1 at example 0"),
        (Task("regression"), {"a": X}, r"labels of several outputs \(a\); name a task for each"),
        (Task(outputs={"a": "regression"}), X, "a dict with the keys a. Received one array"),
        (Task(outputs={"a": "regression"}), {"b": X}, "a dict with the keys a. Received b"),
    ],
    ids=str,
)
def test_labels_of_another_task_are_one_line(task, given, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        labels_for(task, given, X, "data")
    assert "\n" not in str(caught.value)


def test_an_autoencoder_of_several_inputs_is_one_line() -> None:
    with pytest.raises(DataError, match="data: autoencoder takes one input. Received 2"):
        labels_for(Task("autoencoder"), np.zeros(4), {"a": X, "b": X}, "data")


@pytest.mark.parametrize(
    ("task", "labels", "shape", "message"),
    [
        (Task(), np.array([0, 2]), (None, 2), "label 2 at example 1, m has 2 outputs, .* 0 to 1"),
        (Task(), np.array([0, 2]), (None, 1), "label 2 at example 1, m has 1 outputs, .* 0 to 1"),
        (
            Task("segmentation"),
            np.zeros((2, 8, 8), int),
            (None, 4, 4, 2),
            r"labels of shape \(2, 8",
        ),
        (Task("regression"), np.zeros((2, 3)), (None, 1), r"output of shape \(None, 1\); set has"),
        (Task("autoencoder"), np.zeros((2, 3)), (None, 4), "set has the inputs of shape"),
    ],
    ids=str,
)
def test_an_output_that_does_not_fit_is_one_line(task, labels, shape, message) -> None:
    with pytest.raises(DataError, match=message):
        check_output(task, labels, shape, "set", "m")


def test_an_ignored_label_is_no_class() -> None:
    task = Task("segmentation", ignore=255)
    labels = np.full((2, 4, 4), 255)
    labels[0] = 1
    check_output(task, labels, (None, 4, 4, 2), "set", "m")
    assert width_of(task, labels, X) == 2


def test_nothing_can_be_learned_from_equal_labels_and_anomalies_not_from_anomalies() -> None:
    with pytest.raises(DataError, match=r"all labels of the train set are 2\.0; there is nothing"):
        check_learnable(Task("regression"), np.full((3, 1), 2.0), "data")
    with pytest.raises(DataError, match="1 examples of the train set are labeled 1"):
        check_learnable(Task("anomaly"), np.array([0, 1]), "data")
    parts = Task(outputs={"a": "classification"})
    with pytest.raises(DataError, match="data: a: all labels of the train set are 0; a classifier"):
        check_learnable(parts, {"a": np.zeros(3, int)}, "data")
