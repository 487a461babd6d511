"""The data sets that need no download: what they hold, the same each time."""

import numpy as np
import pytest

from tfprune.pipeline.datasets import load_data
from tfprune.recipe import DataTable
from tfprune.recipe.builtin_data import MADE, builtin_data
from tfprune.recipe.sources import MADE as NAMES
from tfprune.task.task import Task

SHAPES = {
    "diabetes": ((10,), (1,)),
    "digit_anomalies": ((8, 8, 1), ()),
    "digit_boxes": ((16, 16, 1), {"digit": (), "box": (2,)}),
    "digit_pixels": ((24, 24, 1), (24, 24)),
    "digit_traits": ((8, 8, 1), (3,)),
    "digits": ((8, 8, 1), ()),
    "hourly_demand": ({"past": (48, 2), "weather": (12,), "calendar": (5,)}, (12,)),
    "questions": ((14,), ()),
    "spoken_digits": ((32, 24, 1), ()),
}


def test_recipes_name_every_set() -> None:
    assert set(NAMES) == set(MADE) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_a_set_is_the_same_each_time_and_its_task_is_seen(name: str) -> None:
    data = load_data(DataTable(name))
    assert data.fingerprint()[0] == load_data(DataTable(name)).fingerprint()[0]
    shape, labels = SHAPES[name]
    assert data.input_shape == shape
    for split in data.splits.values():
        found = split.y
        if isinstance(labels, dict):
            assert {key: value.shape[1:] for key, value in found.items()} == labels
        else:
            assert found.shape[1:] == labels
    assert data.origin == "guessed from the labels"


def test_a_box_is_where_the_digit_is() -> None:
    (x, y), _ = builtin_data("digit_boxes", 0)
    for image, center in zip(x[:50, ..., 0], y["box"][:50], strict=True):
        rows, columns = np.nonzero(image > 0.4)
        assert np.abs(rows.mean() / 16 - center[0]) < 0.15
        assert np.abs(columns.mean() / 16 - center[1]) < 0.15


def test_digits_with_boxes_are_tested_on_others_than_they_train_on() -> None:
    (x, y), (test, _) = builtin_data("digit_boxes", 0)
    assert len(x) == 4 * 1348
    assert len(test) == 449
    assert (np.ptp(np.reshape(y["digit"], (-1, 4)), axis=1) == 0).all()


def test_the_demand_of_the_next_hours_follows_that_of_the_past() -> None:
    (x, y), (later, _) = builtin_data("hourly_demand", 0)
    np.testing.assert_allclose(x["past"][12:, -12:, 0] + 5, y[:-12], atol=1e-6)
    np.testing.assert_allclose(x["past"][12:, -12:, 1], x["weather"][:-12], atol=1e-6)
    assert len(later["past"]) > 2000


def test_anomalies_are_in_the_test_set_only() -> None:
    data = load_data(DataTable("digit_anomalies"), Task("anomaly"))
    assert not data.train.y.any()
    assert 0.2 < data.test.y.mean() < 0.5
