"""Gates that are passed, missed, or not measured."""

import dataclasses

import pytest

from tfprune.errors import OptionError
from tfprune.report import Gate, Ratio, Report, Row
from tfprune.report.data import Measure

BASE = Row("dense", 1000, 800, score=0.97)


def verdict(gate: Gate, row: Row, conditions=None) -> dict[str, bool]:
    results = Report("t", (BASE, row), conditions=conditions).with_gate(gate).gates
    return {result.name: result.passed for result in results}


@pytest.mark.parametrize(
    ("score", "passed"), [(0.97, True), (0.96, True), (0.9599, False), (0.99, True), (None, False)]
)
def test_a_drop_of_the_metric(score, passed) -> None:
    row = Row("small", 100, 80, score=score)
    assert verdict(Gate(max_accuracy_drop=0.01), row) == {"max_accuracy_drop": passed}


@pytest.mark.parametrize(("gzip_bytes", "passed"), [(80, True), (79, True), (81, False)])
def test_compression_is_gzip_against_gzip(gzip_bytes, passed) -> None:
    row = Row("small", 5, gzip_bytes)
    assert verdict(Gate(min_compression=10), row) == {"min_compression": passed}


def test_latency_that_was_not_measured_misses_its_gate(report) -> None:
    gate = Gate(max_latency_ratio=1.1)
    row = Row("small", 5, 5, latency_ratio=Ratio(1.0, 1.0, 1.0, 9))
    real = report.conditions
    assert verdict(gate, row, real) == {"max_latency_ratio": True}
    assert verdict(gate, row, None) == {"max_latency_ratio": False}
    assert verdict(gate, row, dataclasses.replace(real, fake=True)) == {"max_latency_ratio": False}
    slow = dataclasses.replace(row, latency_ratio=Ratio(1.2, 1.0, 1.3, 9))
    assert verdict(gate, slow, real) == {"max_latency_ratio": False}


def test_every_candidate_is_judged_and_the_baseline_is_not(report) -> None:
    assert [(gate.row, gate.name, gate.passed) for gate in report.gates] == [
        ("int8 & pruned", "max_accuracy_drop", True),
        ("int8 & pruned", "min_compression", True),
        ("int8 & pruned", "max_latency_ratio", True),
        ("copy", "max_accuracy_drop", True),
        ("copy", "min_compression", False),
        ("copy", "max_latency_ratio", True),
    ]
    assert not report.passed
    assert Report("t", (BASE,)).with_gate(Gate(min_compression=10)).passed


def test_a_verdict_reads_as_a_line(report) -> None:
    assert str(report.gates[4]) == "MISSED: min_compression of copy: 1, limit 10"
    unknown = Report("t", (BASE, Row("r", 5, 5))).with_gate(Gate(max_accuracy_drop=0.01))
    assert "not measured" in str(unknown.gates[0])


@pytest.mark.parametrize(("size", "passed"), [(100, True), (101, False)])
def test_sizes_have_limits_in_bytes(size, passed) -> None:
    row = Row("small", size, size - 1)
    assert verdict(Gate(max_bytes=100), row) == {"max_bytes": passed}
    assert verdict(Gate(max_gzip_bytes=99), row) == {"max_gzip_bytes": passed}


def test_accuracy_and_time_may_have_absolute_limits(report) -> None:
    row = Row("small", 5, 5, score=0.9, median_ms=2.0)
    gate = Gate(min_accuracy=0.9, max_latency_ms=2.0)
    good = {"min_accuracy": True, "max_latency_ms": True}
    assert verdict(gate, row, report.conditions) == good
    slow = dataclasses.replace(row, score=0.89, median_ms=2.1)
    assert verdict(gate, slow, report.conditions) == dict.fromkeys(good, False)
    assert verdict(gate, row) == {"min_accuracy": True, "max_latency_ms": False}


def test_bytes_are_written_out() -> None:
    heavy = Report("t", (BASE, Row("r", 1_234_567, 5))).with_gate(Gate(max_bytes=1_000_000))
    assert str(heavy.gates[0]) == "MISSED: max_bytes of r: 1,234,567, limit 1,000,000"
    assert "| 1,000,000 | 1,234,567 |" in heavy.to_markdown()
    assert "<td>1,000,000</td><td>1,234,567</td>" in heavy.to_html()


def test_other_objects_than_a_gate_are_refused() -> None:
    with pytest.raises(OptionError, match=r"gate: expected a Gate, such as .* Received dict"):
        Report("t", (BASE,)).with_gate({"max_bytes": 5})


@pytest.mark.parametrize("limit", [-1, "1", True, float("nan")])
def test_a_limit_is_a_number(limit) -> None:
    with pytest.raises(OptionError, match="gate min_compression: expected a number"):
        Gate(min_compression=limit)


MAE = Measure("MAE", higher_is_better=False, unit="kg", share=False)


def errors(dense: float, small: float, gate: Gate) -> dict[str, bool]:
    rows = (Row("dense", 9, 9, score=dense), Row("small", 5, 5, score=small))
    results = Report("t", rows, metric="MAE", measures=(MAE,)).with_gate(gate).gates
    return {result.name: result.passed for result in results}


@pytest.mark.parametrize(("small", "passed"), [(2.1, True), (1.5, True), (2.3, False)])
def test_an_error_may_grow_by_its_drop(small, passed) -> None:
    assert errors(2.0, small, Gate(max_drop=0.2)) == {"max_drop": passed}
    assert errors(9.0, small, Gate(max_score=2.2)) == {"max_score": passed}


@pytest.mark.parametrize("name", ["min_accuracy", "min_score", "max_accuracy_drop"])
def test_a_limit_in_the_wrong_direction_is_one_line(name) -> None:
    with pytest.raises(OptionError, match=f"gate {name}: of MAE, lower is better; set max_"):
        errors(2.0, 2.0, Gate(**{name: 0.5}))
    with pytest.raises(OptionError, match="max_score: of accuracy, higher is better; set min_sc"):
        verdict(Gate(max_score=0.5), BASE)
