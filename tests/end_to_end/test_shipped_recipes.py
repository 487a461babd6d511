"""Every shipped recipe through the command, on a budget of seconds."""

import gzip
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_tasks import TASKS
from tfprune.recipe import find_recipe, load_recipe, shipped_recipes
from tfprune.runtime.litert import Runner

# Digits stand in for what has to be downloaded. A tiny budget keeps no promise of accuracy.
BUDGET = {
    "data": {"source": "digits", "limit": 200},
    "train": {"epochs": 2},
    "shrink": {"epochs": 2},
    "prune": {"epochs": 3, "end_epoch": 2.0},
    "measure": {"runs": 5},
    "gate": {"max_accuracy_drop": 0.99, "min_compression": 1.0, "max_latency_ratio": 100.0},
}


# Ten to twenty seconds each on two cores; they are also run in full below.
LONG = ("channels", "heads", "mnist")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LONG else name
        for name in shipped_recipes()
        if name not in TASKS
    ],
)
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
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    baseline, result = report["rows"]
    assert result["scheme"] == tables.get("quantize", {"scheme": "float32"})["scheme"]
    assert result["gzip_bytes"] < baseline["gzip_bytes"]
    share = tables.get("shrink", {"target": {"macs": 1.0}})["target"]["macs"]
    assert result["macs"] <= share * baseline["macs"]
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
def test_quickstart_reaches_the_stated_figures(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "tfprune.cli", "run", "quickstart", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stderr
    baseline, result = json.loads((out / "report.json").read_text())["rows"]
    assert baseline["score"] > 0.98
    assert baseline["score"] - result["score"] <= 0.01
    assert baseline["gzip_bytes"] >= 10 * result["gzip_bytes"]
    assert result["latency_ratio"]["median"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "accuracy", "drop", "compression"),
    [("channels", 0.98, 0.01, 5), ("heads", 0.95, 0.02, 4)],
)
def test_units_are_removed_and_the_stated_figures_reached(
    name: str, accuracy: float, drop: float, compression: float, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "tfprune.cli", "run", name, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stderr
    baseline, result = json.loads((out / "report.json").read_text())["rows"]
    assert baseline["score"] > accuracy
    assert baseline["score"] - result["score"] <= drop
    assert baseline["gzip_bytes"] >= compression * result["gzip_bytes"]
    assert result["macs"] <= 0.5 * baseline["macs"]
    # The units are gone from the Keras model too, and with them whole rows and columns.
    widths = {kernel["name"]: kernel["shape"] for kernel in baseline["kernels"]}
    smaller = [k for k in result["kernels"] if k["shape"] != widths[k["name"]]]
    assert len(smaller) >= 4


@pytest.mark.exhaustive
@pytest.mark.data
def test_mnist_reaches_the_stated_figures_on_a_part_of_the_real_data(
    tmp_path: Path, data_dir: Path
) -> None:
    names = {
        "x_train": ("train-images-idx3-ubyte.gz", 16, (-1, 28, 28, 1)),
        "y_train": ("train-labels-idx1-ubyte.gz", 8, (-1,)),
        "x_test": ("t10k-images-idx3-ubyte.gz", 16, (-1, 28, 28, 1)),
        "y_test": ("t10k-labels-idx1-ubyte.gz", 8, (-1,)),
    }
    arrays = {}
    for key, (name, header, shape) in names.items():
        content = gzip.decompress((data_dir / "mnist" / name).read_bytes())
        arrays[key] = np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    np.savez(tmp_path / "mnist.npz", **arrays)
    out = tmp_path / "run"
    settings = [f"data.source={tmp_path / 'mnist.npz'}", f"data.scale={1 / 255}",
                "data.limit=12000"]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "tfprune.cli", "run", "mnist", *words, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=840,
    )
    assert done.returncode == 0, done.stderr
    baseline, result = json.loads((out / "report.json").read_text())["rows"]
    assert baseline["score"] > 0.96
    assert baseline["score"] - result["score"] <= 0.01
    assert baseline["gzip_bytes"] >= 20 * result["gzip_bytes"]
