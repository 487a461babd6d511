"""Figures: what is shown, what is left out, which is best."""

import dataclasses

import pytest

from tfprune.report import Report, Row
from tfprune.report.data import Measure
from tfprune.report.figures import (
    bytes_text,
    cell,
    conditions_text,
    figures,
    ms,
    samples_text,
    seconds,
    si,
)


def by_label(report: Report) -> dict[str, tuple[str, ...]]:
    return {figure.label: figure.cells for figure in figures(report)}


def test_figures_say_what_the_rows_hold(report) -> None:
    cells = by_label(report)
    assert cells["accuracy"] == ("0.9800", "0.9700 (-0.0100)", "0.9800 (+0.0000)")
    assert cells["file, gzip"] == ("900.0 KB", "60.0 KB (15.0x smaller)", "900.0 KB")
    assert cells["latency ratio"] == ("–", "0.50x [0.48, 0.51]", "1.00x [0.99, 1.01]")
    assert cells["zeros in the file"] == ("0.0 %", "89.5 %", "–")


def test_a_figure_that_no_row_has_is_left_out(report) -> None:
    assert "entropy of its weights" not in by_label(report)
    assert set(by_label(Report("t", (Row("a", 10, 5),)))) == {"file", "file, gzip"}


def test_a_file_that_grew_is_not_called_smaller(report) -> None:
    grown = Report("t", (Row("a", 10, 5), Row("b", 20, 10)))
    assert by_label(grown)["file"] == ("10 B", "20 B (2.0x larger)")


def test_the_best_is_marked_where_there_is_one(report) -> None:
    best = {figure.label: figure.best for figure in figures(report)}
    assert best["file, gzip"] == (1,)
    assert best["accuracy"] == (0, 2)
    assert best["scheme"] == ()
    assert best["peak memory"] == ()


def test_figures_of_a_fake_device_are_not_shown(report) -> None:
    fake = dataclasses.replace(report.conditions, fake=True)
    cells = by_label(dataclasses.replace(report, conditions=fake))
    assert not [label for label in cells if label.startswith("latency")]
    assert "was not measured" in conditions_text(dataclasses.replace(report, conditions=fake))


def test_sentences_name_the_conditions_of_a_figure(report) -> None:
    text = conditions_text(report)
    for word in ("host", "ai-edge-litert 2.3.0", "1 thread,", "thread CPU time", "50", "1.00x"):
        assert word in text
    assert "540 samples" in samples_text(report)
    bare = Report("t", (Row("a", 10, 5),))
    assert conditions_text(bare) == samples_text(bare) == ""


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (bytes_text(None), None),
        (bytes_text(999_999), "1000.0 KB"),
        (si(999), "999"),
        (si(3_857_973_248), "3.9 G"),
        (ms(0.2), "0.200 ms"),
        (ms(1234.5), "1234 ms"),
        (seconds(119.6), "2 min 0 s"),
        (cell(None), "–"),
        (cell(0.123456), "0.1235"),
        (cell(12), "12"),
    ],
)
def test_numbers_are_short(found, expected) -> None:
    assert found == expected


def test_every_metric_has_a_line_and_the_best_in_its_direction() -> None:
    measures = (Measure("MAE", higher_is_better=False, unit="kg", share=False), Measure("R²"))
    rows = (
        Row("dense", 9, 9, score=0.211, scores=(0.211, 0.91)),
        Row("small", 5, 5, score=0.214, scores=(0.214, 0.92)),
    )
    report = Report("t", rows, metric="MAE", measures=measures)
    cells = by_label(report)
    assert cells["MAE"] == ("0.211 kg", "0.214 kg (+0.003)")
    assert cells["R²"] == ("0.9100", "0.9200 (+0.0100)")
    best = {figure.label: figure.best for figure in figures(report)}
    assert (best["MAE"], best["R²"]) == ((0,), (1,))
    assert Report.from_json(report.to_json()) == report
    assert "MAE, +0.003" in report.to_html()
