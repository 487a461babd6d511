"""Recipes of other tasks than classification, on a budget of seconds, and `check` after them."""

from pathlib import Path

import numpy as np
import pytest

from tfprune.pipeline import check, compress
from tfprune.recipe import find_recipe, load_recipe
from tfprune.report import Gate

TASKS = {
    "anomalies": ["AUC"],
    "boxes": ["digit accuracy", "box MAE"],
    "forecast": ["MAE", "RMSE", "R²"],
    "labels": ["F1", "label accuracy"],
    "pairs": ["recall@1", "recall@5"],
    "questions": ["accuracy"],
    "regression": ["MAE", "RMSE", "R²"],
    "segmentation": ["mean IoU", "pixel accuracy"],
    "spoken": ["accuracy"],
}
BUDGET = {
    "train": {"epochs": 2}, "shrink": {"epochs": 1}, "prune": {"epochs": 2, "end_epoch": 1.0},
    "measure": {"runs": 3}, "gate": {"max_drop": 0.9},
}  # fmt: skip
LONG = tuple(name for name in TASKS if name != "regression")


def small(name: str) -> list[str]:
    tables = load_recipe(find_recipe(name)).to_dict()
    return [
        *(f"{t}.{k}={v}" for t, keys in BUDGET.items() if t in tables for k, v in keys.items()),
        "data.limit=120", "measure.runs=3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow) if x in LONG else x for x in TASKS]
)
def test_a_recipe_speaks_of_its_task(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(find_recipe(name), small(name))
    result = compress(None, recipe, out=tmp_path / "run")
    report = result.report
    assert [measure.name for measure in report.measures] == TASKS[name]
    for row in report.rows:
        assert len(row.scores) == len(TASKS[name])
        assert np.isfinite(row.scores).all()
    text = (tmp_path / "run" / "report.md").read_text()
    for title in TASKS[name]:
        assert f"| {title} |" in text
    assert "max_drop" in text
    # The stored run is checked with its own task.
    found = check(tmp_path / "run", limits=Gate(max_drop=0.95))
    assert found.metric == TASKS[name][0]
    assert found.score == pytest.approx(report.row("model").score)
    assert "task =" not in str(result)


FULL = {
    "anomalies": 0.9, "boxes": 0.93, "labels": 0.95, "segmentation": 0.85,
    "forecast": 0.9, "regression": 0.3,  # R²; a line reaches about 0.4 for diabetes
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_recipe_reaches_the_stated_figures(name: str, tmp_path: Path) -> None:
    result = compress(None, find_recipe(name), out=tmp_path / "run")
    dense, small = result.report.rows
    assert result.passed, result.report.gates
    assert small.gzip_bytes < dense.gzip_bytes / 2
    place = TASKS[name].index("R²") if "R²" in TASKS[name] else 0
    assert small.scores[place] > FULL[name]
