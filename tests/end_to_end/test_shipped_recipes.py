"""Every shipped recipe through the command, on a budget of seconds."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tfprune.deploy.runtime import Runner
from tfprune.recipe import find_recipe, load_recipe, shipped_recipes

# Digits stand in for what has to be downloaded. A tiny budget keeps no promise of accuracy.
BUDGET = {
    "data": {"source": "digits", "limit": 200},
    "train": {"epochs": 2},
    "prune": {"epochs": 3, "end_epoch": 2.0},
    "measure": {"runs": 5},
    "gate": {"max_accuracy_drop": 1.0, "min_compression": 1.0},
}


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_a_shipped_recipe_runs_from_end_to_end(name: str, tmp_path: Path) -> None:
    tables = load_recipe(find_recipe(name)).to_dict()
    words = [
        word
        for table, keys in BUDGET.items()
        for key, value in keys.items()
        if table in tables
        for word in ("--set", f"{table}.{key}={value}")
    ]
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "tfprune.cli", "run", name, *words, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    baseline, result = report["rows"]
    assert result["scheme"] == tables.get("quantize", {"scheme": "float32"})["scheme"]
    assert result["gzip_bytes"] < baseline["gzip_bytes"]
    wanted = tables.get("prune", {"sparsity": 0.0})["sparsity"]
    weights = sum(math.prod(kernel["shape"]) for kernel in result["kernels"])
    zeros = sum(kernel["zeros"] for kernel in result["kernels"])
    assert zeros / weights == pytest.approx(wanted, abs=0.01)
    # The table that is printed and the report are of one source, and the file is what they tell.
    assert f"{result['score']:.4f}" in done.stdout
    assert f"{result['latency_ratio']['median']:.2f}x" in done.stdout
    assert Runner(out / "model.tflite").inputs[0].shape[1:] == (8, 8, 1)
    assert (out / "report.html").read_text().startswith("<!")


@pytest.mark.slow
def test_quickstart_keeps_its_promise(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "tfprune.cli", "run", "quickstart", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    baseline, result = json.loads((out / "report.json").read_text())["rows"]
    assert baseline["score"] > 0.98
    assert baseline["score"] - result["score"] <= 0.01
    assert baseline["gzip_bytes"] >= 10 * result["gzip_bytes"]
    assert result["latency_ratio"]["median"] > 0
