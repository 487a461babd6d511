"""A report as data: round trip, rows, additions."""

import dataclasses
import json
import math

import pytest

from tfprune.errors import ArtefactError
from tfprune.report import Curve, Kernel, Report, Row


def test_json_gives_back_the_same_report(report) -> None:
    text = report.to_json()
    assert Report.from_json(text) == report
    assert json.loads(text)["rows"][1]["latency_ratio"]["median"] == 0.5
    bare = Report("Bare", (Row("only", 10, 5),))
    assert Report.from_json(bare.to_json()) == bare


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"title": 1}', "not json", '{"rows": [], "conditions": null}']
)
def test_other_text_is_refused_in_one_line(text) -> None:
    with pytest.raises(ArtefactError, match="not a report that this version") as caught:
        Report.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_field_of_a_later_version_is_refused(report) -> None:
    data = json.loads(report.to_json())
    data["rows"][0]["joules"] = 3
    with pytest.raises(ArtefactError, match="joules"):
        Report.from_json(json.dumps(data))


def test_a_loss_that_is_not_a_number_is_null_in_json() -> None:
    report = Report("t", (Row("a", 10, 5),), history=(Curve("loss", (0.5, math.inf, math.nan)),))
    assert json.loads(report.to_json())["history"][0]["values"] == [0.5, None, None]
    first, *rest = Report.from_json(report.to_json()).history[0].values
    assert first == 0.5
    assert all(map(math.isnan, rest))
    assert "Training" in report.to_html()


def test_rows_are_found_by_name(report) -> None:
    assert report.baseline.name == "dense"
    assert [row.name for row in report.candidates] == ["int8 & pruned", "copy"]
    assert report.row("copy") is report.rows[2]
    with pytest.raises(KeyError, match="there are: dense, int8 & pruned, copy"):
        report.row("sparse")


def test_sparsity_is_that_of_the_stored_weights(report) -> None:
    assert report.row("int8 & pruned").sparsity == 1854 / 2072
    assert report.row("copy").sparsity is None
    assert Kernel("k", (3, 4), 3).sparsity == 3 / 12
    assert Kernel("k", (3, 0), 0).sparsity == 0.0


def test_what_a_run_adds_comes_after_what_is_there(report) -> None:
    more = report.with_run(notes=["second"])
    assert more.notes == ("conv <1>: kept dense", "second")
    assert more.recipe == report.recipe
    assert dataclasses.replace(more, notes=report.notes) == report
