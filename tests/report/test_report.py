"""A report as data: round trip, rows, additions."""

import dataclasses
import json
import math

import pytest

from tfprune.errors import ArtifactError
from tfprune.report import Curve, Report, Row


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
    with pytest.raises(ArtifactError, match="not a report of this version") as caught:
        Report.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_field_of_a_later_version_is_refused(report) -> None:
    data = json.loads(report.to_json())
    data["rows"][0]["joules"] = 3
    with pytest.raises(ArtifactError, match="joules"):
        Report.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("rows",), [], "it has no rows"),
        (("rows", 0, "gzip_bytes"), 0, "'dense' has size 0"),
        (("rows", 0, "gzip_bytes"), "5", "expected a whole number"),
        (("rows", 0, "score"), 10**400, "expected a number"),
        (("rows", 1, "kernels", 0, "shape"), [-1], "has a negative size"),
        (("rows", 1, "latency_ratio"), 3, "expected a table or null"),
        (("sections", 0, "rows"), [["a"]], "differs in length from its header"),
        (("history", 0, "values"), ["x"], "expected a number"),
        (("conditions", "noise"), None, "expected a table"),
        (("gates", 0, "limit"), None, "expected a number"),
        (("stages", 0), "train", "expected a table"),
        (("notes",), "text", "expected a list"),
        (("versions",), ["a"], "expected a table"),
    ],
)
def test_a_damaged_report_is_one_line(report, place, value, said, tmp_path) -> None:
    data = json.loads(report.to_json())
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=f"report.json: not a report of .*{said}"):
        Report.load(path)


def test_a_report_that_is_not_there_is_one_line(report, tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"report\.json: no such file"):
        Report.load(tmp_path / "report.json")
    (tmp_path / "report.json").write_text(report.to_json())
    assert Report.load(tmp_path / "report.json") == report


def test_a_loss_that_is_not_a_number_is_null_in_json() -> None:
    report = Report("t", (Row("a", 10, 5),), history=(Curve("loss", (0.5, math.inf, math.nan)),))
    assert json.loads(report.to_json())["history"][0]["values"] == [0.5, None, None]
    first, *rest = Report.from_json(report.to_json()).history[0].values
    assert first == 0.5
    assert all(map(math.isnan, rest))
    assert "Training" in report.to_html()


def test_what_a_run_adds_is_after_the_earlier_entries(report) -> None:
    more = report.with_run(notes=["second"])
    assert more.notes == ("conv <1>: kept dense", "second")
    assert more.recipe == report.recipe
    assert dataclasses.replace(more, notes=report.notes) == report
