"""Several reports on one page."""

from pathlib import Path

import pytest

from tfprune.report.data import Row
from tfprune.report.gates import Gate
from tfprune.report.overview import COLUMNS, Overview
from tfprune.report.report import Report


@pytest.fixture
def overview() -> Overview:
    def report(score: float, size: int) -> Report:
        base = Row("dense", 1000, 900, score=0.9)
        small = Row("model", size, size, scheme="int8", score=score, weights=10, weight_zeros=5)
        return Report("run", (base, small))

    return Overview(
        {
            "runs/<a>": report(0.91, 300).with_gate(Gate(max_bytes=400)),
            "runs/b": report(0.8, 90).with_gate(Gate(max_bytes=80, min_accuracy=0.7)),
            "runs/c": Report("run", (Row("dense", 10, 9), Row("model", 5, 4))),
        }
    )


def test_a_row_holds_the_figures_of_a_file_beside_its_baseline(overview: Overview) -> None:
    assert len(COLUMNS) == 7
    assert overview.rows == [
        ("runs/<a>", "model, int8", "accuracy 0.9100 (+0.0100)", "300 B (3.0x smaller)", "–",
         "50.0 %", "1 passed"),
        ("runs/b", "model, int8", "accuracy 0.8000 (-0.1000)", "90 B (10.0x smaller)", "–",
         "50.0 %", "1 of 2 missed"),
        ("runs/c", "model", "–", "4 B (2.2x smaller)", "–", "–", "–"),
    ]  # fmt: skip


def test_text_and_markdown_have_every_row(overview: Overview) -> None:
    assert len(str(overview).splitlines()) == 2 + 3
    assert overview.to_markdown().count("\n| ") == 4


def test_points_are_of_scored_files(overview: Overview) -> None:
    assert [(name, round(smaller, 1), round(change, 3)) for name, smaller, change in
            overview.points] == [("runs/<a>", 3.0, 0.01), ("runs/b", 10.0, -0.1)]  # fmt: skip


def test_the_page_escapes_names_and_links_to_the_runs(overview: Overview, tmp_path: Path) -> None:
    page = overview.to_html()
    assert "runs/&lt;a&gt;" in page
    assert "<a href" not in page
    assert "<svg" in page
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "report.html").write_text("")
    run = str(tmp_path / "b")
    linked = Overview({run: overview.reports["runs/b"]}).to_html(tmp_path)
    assert f'<a href="b/report.html">{run}</a>' in linked
