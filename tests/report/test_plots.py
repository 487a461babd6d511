"""Plots: what is drawn, and that nothing is drawn without figures."""

import dataclasses
import re

import pytest

from tfprune.report import Curve, Kernel, Report, Row
from tfprune.report.plots import _panels, _starts, comparison, largest, sparsity, training


def words(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_bars_have_names_and_values(report) -> None:
    found = words(comparison(report))
    for word in ("dense", "copy", "accuracy", "file, gzip", "0.9700", "60.0 KB", "0.200 ms"):
        assert word in found


def test_a_figure_that_was_not_measured_has_no_panel(report) -> None:
    bare = Report("t", (Row("a", 10, 5), Row("b", 5, 2)))
    assert "latency, median and quartiles" not in words(comparison(bare))
    fake = dataclasses.replace(report.conditions, fake=True)
    hidden = dataclasses.replace(report, conditions=fake)
    assert "latency, median and quartiles" not in words(comparison(hidden))


def test_long_names_of_any_characters_are_drawn(report) -> None:
    rows = (
        Row("模型 $x$ <&>", 10, 5),
        Row("a" * 300, 5, 2, kernels=(Kernel("k" * 300, (2, 2), 1),)),
    )
    found = words(comparison(Report("t", rows)))
    assert "模型 $x$ &lt;&amp;&gt;" in found
    assert f"…{'a' * 35}" in found
    assert f"…{'k' * 35}" in words(sparsity(rows[1]))


@pytest.mark.parametrize("value", [1e300, 1e-300, -1e308])
def test_values_too_large_for_an_axis_are_no_error(report, value) -> None:
    rows = [dataclasses.replace(row, score=value, median_ms=value) for row in report.rows]
    changed = dataclasses.replace(report, rows=tuple(rows))
    assert changed.metric in words(comparison(changed))


def test_zeros_are_drawn_where_there_are_some(report) -> None:
    assert "conv/kernel" in words(sparsity(report.rows[1]))
    assert sparsity(report.rows[0]) == ""
    full = dataclasses.replace(report.rows[1], kernels=(Kernel("k", (2, 2), 0),))
    assert sparsity(full) == ""


def test_the_largest_kernels_keep_their_order() -> None:
    kernels = [Kernel(str(i), (10 + (i % 7), 10), 0) for i in range(60)]
    kept = largest(kernels)
    assert len(kept) == 40
    assert [int(kernel.name) for kernel in kept] == sorted(int(kernel.name) for kernel in kept)
    assert min(kernel.size for kernel in kept) >= 120


def test_a_training_of_one_epoch_has_room_for_its_name() -> None:
    """The stage is named where its first epoch begins; the axis has to reach there."""
    found = words(training([Curve("loss", (1.0,), "prune")]))
    assert {"prune", "loss", "epoch"} <= set(found)


def test_curves_are_drawn_by_stage(report) -> None:
    found = words(training(report.history))
    for word in ("train", "prune", "loss", "val_loss", "sparsity", "epoch"):
        assert word in found
    assert training(()) == ""
    assert _starts(report.history) == {"train": 0, "prune": 3}


def test_curves_share_an_axis_where_they_can() -> None:
    history = [
        Curve(name, values)
        for name, values in {
            "loss": (9.0, 3.0),
            "val_loss": (8.0, 4.0),
            "accuracy": (0.5, 0.9),
            "sparsity": (0.0, 0.9),
            "steps": (100.0, 200.0),
        }.items()
    ]
    assert _panels(history) == [["loss", "val_loss"], ["accuracy", "sparsity"], ["steps"]]
