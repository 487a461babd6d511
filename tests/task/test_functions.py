"""Metrics of the user's own."""

import numpy as np
import pytest

from tfprune.errors import DataError, OptionError
from tfprune.task.answers import Answers
from tfprune.task.functions import function_metric


def test_a_function_gets_all_samples_of_all_outputs() -> None:
    def boxes_found(labels, outputs):
        assert outputs["box"].dtype == np.float32
        return np.mean((labels["box"] == outputs["box"]).all(1) & (outputs["class"] > 0))

    boxes_found.higher_is_better = True
    metric = function_metric(boxes_found, None)
    tally = metric.tally()
    for size in (3, 2):
        box = np.ones((size, 4))
        tally.add(Answers({"box": box, "class": np.arange(size)}, {"box": box}))
    assert (metric.title, metric.higher_is_better) == ("boxes_found", True)
    assert tally.value() == 3 / 5


def test_a_function_needs_a_direction_and_returns_a_number() -> None:
    with pytest.raises(OptionError, match="len has no direction"):
        function_metric(len, None)
    tally = function_metric(lambda labels, outputs: outputs, False).tally()
    tally.add(Answers(np.ones(3), np.ones(3)))
    with pytest.raises(DataError, match="it must return one number"):
        tally.value()
