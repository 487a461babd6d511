"""The table of schemes, which candidate is taken, and what a choice looks like as text."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.errors import OptionError
from tfprune.runtime.schemes import SCHEMES, TIE, Candidate, Choice, check_scheme, pick


@pytest.mark.parametrize("name", list(SCHEMES))
def test_every_scheme_has_valid_fields(name):
    scheme = SCHEMES[name]
    assert scheme.summary
    assert 0 < scheme.bound < 1
    assert scheme.needs_calibration == (scheme.activations in ("int8", "int16"))
    assert "float32" in scheme.io
    # Integers at the border need integers inside.
    assert scheme.needs_calibration or scheme.io == ("float32",)


def row(scheme: str, gzip: int, ratio: float, passed: bool = True) -> Candidate:
    return Candidate(scheme, gzip, gzip, ratio, ratio, ratio, ratio, None, 0.0, passed)


FOUR = [row("float32", 400, 1.0), row("float16", 200, 1.01), row("dynamic", 100, 1.5),
        row("int8", 110, 0.3)]  # fmt: skip


def test_the_fastest_or_the_smallest_is_chosen() -> None:
    assert pick(FOUR, "latency").scheme == "int8"
    assert pick(FOUR, "size").scheme == "dynamic"


def test_a_candidate_that_misses_the_gate_is_not_chosen() -> None:
    missed = [*FOUR[:3], dataclasses.replace(FOUR[3], passed=False)]
    # float16 takes as long as float32 within the noise, and is half as large.
    assert pick(missed, "latency").scheme == "float16"


def test_a_candidate_that_failed_is_not_chosen() -> None:
    assert pick([FOUR[0], Candidate("int8", reason="not made")], "latency").scheme == "float32"
    with pytest.raises(ValueError, match="no candidate passes the gate"):
        pick([Candidate("int8", reason="not made")], "latency")


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 2.0), st.booleans()), min_size=1))
def test_nothing_within_the_gate_is_faster_by_more_than_the_noise(entries) -> None:
    rows = [row("float32", 10, 1.0), *(row(str(i), *entry) for i, entry in enumerate(entries))]
    taken = pick(rows, "latency")
    assert taken.passed
    for other in rows:
        if other.passed:
            assert taken.ratio <= other.ratio * (1 + TIE)
            assert other.ratio > taken.ratio or other.gzip_bytes >= taken.gzip_bytes
    smallest = pick(rows, "size")
    assert all(smallest.gzip_bytes <= other.gzip_bytes for other in rows if other.passed)


def test_text_has_a_line_for_each_and_the_reason() -> None:
    rows = (*FOUR, Candidate("int4", reason="not made: no reason"))
    choice = Choice("int8", "int8 is the fastest", "latency", 0.01, "accuracy", "host: here", rows)
    lines = choice.to_text().splitlines()
    assert len(lines) == 1 + 5 + 2
    assert lines[4].startswith("int8 ")
    assert "0.30x [0.30, 0.30]" in lines[4]
    assert lines[4].endswith("  chosen")
    assert lines[5].endswith("not made: no reason")
    assert lines[6:] == ["int8 is the fastest", "host: here"]


def test_names_are_checked() -> None:
    check_scheme("auto")
    check_scheme("int8")
    with pytest.raises(OptionError, match=r"unknown scheme 'autos'.*Did you mean auto\?"):
        check_scheme("autos")
    with pytest.raises(OptionError, match=r"prefer: unknown value 'speed'. Known: latency, size"):
        pick(FOUR, "speed")
