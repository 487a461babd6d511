"""The table [task]: what it describes, and wrong ones in one line."""

from pathlib import Path

import pytest

from tfprune.errors import OptionError, RecipeError
from tfprune.recipe import parse_recipe
from tfprune.recipe.task_table import table_of, task_of
from tfprune.task.task import Task


@pytest.mark.parametrize(
    "task",
    [
        Task("regression"),
        Task("segmentation", ignore=0, from_logits=True),
        Task("regression", metrics=["rmse", "mae"], unit="kg", loss="huber"),
        Task(outputs={"a": "classification", "b": Task("regression", weight=0.5)}),
        Task(outputs={"a": Task(from_logits=False), "b": Task("regression", weight=0.0)}),
    ],
)
def test_a_task_and_its_table_say_the_same(task: Task) -> None:
    table = parse_recipe({"task": table_of(task)}).task
    assert task_of(table) == task
    assert parse_recipe(parse_recipe({"task": table_of(task)}).to_dict()).task == table


def test_a_task_with_functions_has_no_table() -> None:
    assert table_of(Task("custom", metrics=[max], higher_is_better=True)) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "regresion"}, r"\[task\] name: expected the name of a task.*mean regression\?"),
        ({"metrics": ["mae"]}, r"\[task\] metrics: .*'mae' is not for classification\. Known: acc"),
        ({"name": "regression", "metrics": ["mea"]}, r"metrics: expected a list of names.*mea"),
        ({"outputs": {"a": 3}}, "a is neither the name of a task nor a table"),
        ({"outputs": {"a": {"nme": "x"}}}, r"a has an unknown key 'nme'.*Did you mean name\?"),
        ({"outputs": {"a": {"weight": -1}}}, "a weight: expected a number, 0 or more"),
        ({"outputs": {"a": "regression"}, "unit": "kg"}, "unit: is for each of the outputs"),
        ({"weight": 2}, "weight: is only for one of several outputs"),
    ],
)
def test_a_wrong_table_is_one_line(table: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe({"task": table})
    assert "\n" not in str(caught.value)


def test_a_drop_has_the_unit_of_the_metric() -> None:
    gate = {"max_drop": 3}
    assert parse_recipe({"task": {"name": "regression"}, "gate": gate}).gate.max_drop == 3
    parse_recipe({"model": {"source": "any.module:function"}, "gate": gate})  # it may tell its own
    with pytest.raises(RecipeError, match=r"max_drop: expected a number in \[0, 1\).*Received 3"):
        parse_recipe({"gate": gate})


def test_a_function_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric_module.py").write_text(
        "def good(labels, outputs): return 1.0\ngood.higher_is_better = True\n"
        "def bare(labels, outputs): return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    table = {"name": "custom", "metrics": ["my_metric_module:good"], "loss": "mse"}
    assert task_of(parse_recipe({"task": table}).task).measures[0].title == "good"
    table["metrics"] = ["my_metric_module:bare"]
    with pytest.raises(OptionError, match="bare has no direction"):
        task_of(parse_recipe({"task": table}).task)
    table["higher_is_better"] = False
    assert not task_of(parse_recipe({"task": table}).task).measures[0].metric.higher_is_better
