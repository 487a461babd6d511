"""A task: its metrics, how outputs agree, and wrong ones in one line."""

import numpy as np
import pytest

from tfprune.errors import OptionError
from tfprune.task.task import TASKS, Task, as_task, task_for


def test_the_first_metric_is_the_one_of_the_gates() -> None:
    task = Task("regression", metrics=["rmse", "r2"], unit="kg")
    assert [(one.title, one.unit) for one in task.measures] == [("RMSE", "kg"), ("R²", "")]
    assert not task.measures[0].metric.higher_is_better


def test_outputs_have_metrics_of_their_own() -> None:
    box = Task("regression", metrics=["mae"])
    task = Task(outputs={"digit": "classification", "box": box})
    assert [one.title for one in task.measures] == ["digit accuracy", "box MAE"]
    assert task.named == "digit: classification, box: regression"


def test_answers_agree_by_class_by_decision_or_not_at_all() -> None:
    one, other = np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[0.4, 0.6], [0.3, 0.7]])
    assert Task("classification").agreement(one, other).tolist() == [True, False]
    assert Task("multi_label").agreement(one, other).tolist() == [[True, True], [False, False]]
    logits = Task("multi_label", from_logits=True)
    assert logits.agreement(one - 1, other - 1).all()
    assert Task("regression").agreement(one, other) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task("regresion"), "unknown task 'regresion'. Known: .* Did you mean regression?"),
        (lambda: Task("regression", metrics=["maee"]), "metric 'maee'. .* Did you mean mae?"),
        (lambda: Task("regression", metrics=["f1"]), "'f1' is not for regression. Known: mae, mse"),
        (lambda: Task("custom"), "task custom: it has no metric; give metrics="),
        (lambda: Task("custom", metrics=[len]), "len has no direction; give higher_is_better="),
        (lambda: Task("custom", metrics=[3]), "names of metrics or functions .* Received 3"),
        (lambda: Task(metrics="accuracy"), "expected a list of metrics. Received 'accuracy'"),
        (
            lambda: Task("regression", ignore=0),
            "ignore: only for class numbers, not for regression",
        ),
        (
            lambda: Task(outputs={"a": 3}),
            "task a: expected a Task or the name of one. Received int",
        ),
        (lambda: Task(outputs=["a"]), "expected a task for each output"),
        (lambda: Task(weight=-1), "weight: expected a number >= 0. Received -1"),
        (lambda: as_task(3), "task: expected a Task or the name of one. Received int"),
        (lambda: Task(outputs={"a": Task(outputs={"b": Task()})}), "no outputs of its own"),
    ],
)
def test_a_wrong_task_is_one_line(make, message) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_name_is_a_task_and_a_metric_makes_one() -> None:
    assert as_task("anomaly") == Task("anomaly")
    assert task_for("mean_iou").kind.form == "classes"
    assert task_for(max).measures[0].metric.higher_is_better
    assert all(TASKS[name].summary for name in TASKS)
