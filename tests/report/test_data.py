"""Rows of a report, and their derived figures."""

import pytest

from tfprune.report import Kernel


def test_rows_are_found_by_name(report) -> None:
    assert report.baseline.name == "dense"
    assert [row.name for row in report.candidates] == ["int8 & pruned", "copy"]
    assert report.row("copy") is report.rows[2]
    with pytest.raises(KeyError, match="Known: dense, int8 & pruned, copy"):
        report.row("sparse")


def test_sparsity_is_that_of_the_stored_weights(report) -> None:
    assert report.row("int8 & pruned").sparsity == 1854 / 2072
    assert report.row("copy").sparsity is None
    assert Kernel("k", (3, 4), 3).sparsity == 3 / 12
    assert Kernel("k", (3, 0), 0).sparsity == 0.0
