"""A stored file held against limits: only what they need is measured."""

import json

import pytest

from tfprune.errors import ArtifactError, OptionError
from tfprune.measure.check import Limits, check_file


def test_each_limit_has_a_verdict_of_its_own(float_file, int8_file, images, labels) -> None:
    limits = Limits(
        min_accuracy=0.8, max_accuracy_drop=0.05, max_bytes=10, max_gzip_bytes=1e6,
        min_compression=1.5, max_latency_ms=1e4, max_latency_ratio=50,
    )  # fmt: skip
    found = check_file(
        int8_file, limits, name="m", data=(images, labels), baseline=float_file,
        recorded=int8_file.report.sha256, runs=3,
    )  # fmt: skip
    verdicts = {gate.name: gate.passed for gate in found.gates}
    assert verdicts == {
        "unchanged": True, "min_accuracy": True, "max_accuracy_drop": True, "max_bytes": False,
        "max_gzip_bytes": True, "min_compression": True, "max_latency_ms": True,
        "max_latency_ratio": True,
    }  # fmt: skip
    assert not found.passed
    assert str(found).splitlines()[3] == f"MISSED: max_bytes of m: {found.raw_bytes:,}, limit 10"
    assert (found.samples, found.raw_bytes) == (120, len(int8_file.bytes))
    assert found.median_ms > 0
    assert json.loads(found.to_json())["passed"] is False


def test_what_no_limit_asks_for_is_not_measured(float_file) -> None:
    found = check_file(float_file, Limits(max_bytes=1e6), name="m")
    assert found.passed
    assert (found.accuracy, found.median_ms, found.conditions, found.samples) == (
        None, None, None, 0
    )  # fmt: skip


def test_accuracy_on_other_data_misses(float_file, images, labels) -> None:
    moved = (labels + 1) % 10
    limits = Limits(min_accuracy=0.5)
    assert check_file(float_file, limits, name="m", data=(images, labels)).passed
    assert not check_file(float_file, limits, name="m", data=(images, moved)).passed


def test_a_wrong_scale_of_the_data_is_reported(int8_file, images, labels) -> None:
    found = check_file(int8_file, Limits(min_accuracy=0), name="m", data=(images * 255, labels))
    assert found.notes[0].startswith("m: 9")
    assert str(found).splitlines()[-1] == f"note: {found.notes[0]}"


def test_a_changed_file_is_reported(float_file, int8_file) -> None:
    limits = Limits(max_bytes=1e6)
    found = check_file(float_file, limits, name="m", recorded=int8_file.report.sha256)
    assert [(gate.name, gate.passed) for gate in found.gates] == [
        ("unchanged", False), ("max_bytes", True)
    ]  # fmt: skip
    assert str(found.gates[0]) == "MISSED: unchanged of m: its hash does not match its report"
    same = check_file(int8_file, limits, name="m", recorded=int8_file.report.sha256)
    assert str(same.gates[0]) == "passed: unchanged of m: its hash matches its report"


def test_given_limits_replace_stored_ones() -> None:
    mine, stored = Limits(max_bytes=5), Limits(max_bytes=9, min_accuracy=0.5)
    assert mine.over(stored) == Limits(max_bytes=5, min_accuracy=0.5)
    assert Limits().over(stored) == stored
    assert not Limits().any


@pytest.mark.parametrize(
    ("limits", "options", "message"),
    [
        (Limits(), {}, "no limit is given; give one of min_accuracy, "),
        (Limits(max_latency_ratio=1), {}, "max_latency_ratio compares with a baseline"),
        (Limits(min_accuracy=0.5), {}, "a limit of accuracy needs labeled data"),
    ],
)
def test_a_limit_without_its_data_or_baseline_is_refused(
    float_file, limits, options, message
) -> None:
    with pytest.raises(OptionError, match=message):
        check_file(float_file, limits, name="m", **options)


def test_limits_are_numbers() -> None:
    for wrong in (-1, float("nan"), True, "3"):
        with pytest.raises(OptionError, match="gate max_bytes: expected a number >= 0"):
            Limits(max_bytes=wrong)


def test_a_damaged_file_is_one_line(float_file) -> None:
    with pytest.raises(ArtifactError, match=r"^net\.tflite: the file: truncated or damaged"):
        check_file(float_file.bytes[:100], Limits(max_bytes=1e6), name="net.tflite")
