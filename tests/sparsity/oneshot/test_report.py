import gc
import json

import keras
import numpy as np
import pytest

import tfprune
from tfprune.errors import ModelError
from tfprune.graph.kernels import Skipped
from tfprune.sparsity.oneshot.report import (
    LayerReport,
    OneShotReport,
    _reports,
    keep_report,
    oneshot_report,
)

ROWS = (
    LayerReport("a/kernel", (4, 2), 8, 4, "reconstruct", 0.01, 0.25, True),
    LayerReport("b/kernel", (2, 2), 4, 1, "magnitude", reason="no rule for what it multiplies"),
)
REPORT = OneShotReport(ROWS, (Skipped("norm", "keras.Norm", "no kernel", True),), 256, "2:4")


def test_the_table_has_a_line_for_each_pruned_and_each_skipped_layer() -> None:
    lines = str(REPORT).splitlines()
    assert lines[1].split() == ["a/kernel", "4×2", "50.00%", "reconstruct", "1.000%", "25.000%"]
    assert lines[2].split() == ["b/kernel", "2×2", "25.00%", "magnitude"]
    assert lines[3].startswith("from 256 samples")
    assert lines[4:] == [
        "b/kernel: magnitude: no rule for what it multiplies",
        "not pruned: norm (keras.Norm): no kernel",
    ]


def test_the_report_is_data() -> None:
    assert len(REPORT) == 2
    assert [row.path for row in REPORT] == ["a/kernel", "b/kernel"]
    assert REPORT["a/kernel"].error == 0.01
    again = json.loads(json.dumps(REPORT.to_json()))
    assert again["rows"][0]["magnitude_error"] == 0.25
    assert again["skipped"][0]["reason"] == "no kernel"


def test_the_report_is_stored_as_long_as_its_model_exists() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    before = len(_reports)
    keep_report(model, REPORT)
    assert oneshot_report(model) is REPORT
    del model
    gc.collect()
    assert len(_reports) <= before


def test_a_model_without_a_report_is_an_error() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="fresh")
    with pytest.raises(ModelError, match="'fresh' was not pruned by prune_oneshot"):
        oneshot_report(model)
    with pytest.raises(ModelError, match="expected a Keras model. Received list"):
        oneshot_report([model])


def test_the_report_remains_after_stripping() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    tfprune.prune_oneshot(model, np.eye(4), 0.5)
    assert tfprune.oneshot_report(tfprune.strip_pruning(model)).samples == 4
