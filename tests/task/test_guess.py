"""The task that labels show."""

import numpy as np
import pytest

from tfprune.errors import DataError
from tfprune.task.guess import guess_task

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (np.arange(5), "classification"),
        (np.arange(5.0)[:, None], "classification"),
        (np.eye(3), "classification"),
        (np.array([[0.2, 0.8], [0.5, 0.5]]), "classification"),
        (RANDOM.integers(0, 2, (9, 4)), "multi_label"),
        (RANDOM.normal(size=9), "regression"),
        (RANDOM.normal(size=(9, 3)), "regression"),
        (RANDOM.normal(size=(9, 4, 4, 1)), "regression"),
        (RANDOM.integers(0, 9, (9, 6)), "tagging"),
        (RANDOM.integers(0, 9, (9, 6, 6)), "segmentation"),
        (RANDOM.integers(0, 9, (9, 6, 6, 1)), "segmentation"),
        # One wrong class number is no regression: it is refused as a class number.
        (np.array([0, 1, 2.5, 1, 0]), "classification"),
    ],
)
def test_labels_show_the_task(labels, name) -> None:
    assert guess_task(labels).name == name


def test_outputs_tell_bits_of_a_sequence_from_labels() -> None:
    bits = RANDOM.integers(0, 2, (9, 4))
    assert guess_task(bits, np.ones((9, 4))).name == "multi_label"
    assert guess_task(bits, np.ones((9, 4, 2))).name == "tagging"


def test_a_dict_has_a_task_for_each() -> None:
    task = guess_task({"kind": np.arange(4), "size": RANDOM.normal(size=4)})
    assert task.named == "kind: classification, size: regression"


def test_text_shows_no_task() -> None:
    with pytest.raises(DataError, match="labels: expected numbers. Received <U1"):
        guess_task(np.array(["a"]))
