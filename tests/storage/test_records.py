"""Dataclasses from JSON: what fits is built, what does not is named by its place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tfprune.storage.records import RecordFault, record


@dataclass(frozen=True)
class Inner:
    name: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    title: str
    ratio: float
    inner: Inner | None = None
    parts: tuple[Inner, ...] = ()
    curve: tuple[float, ...] = ()
    cells: tuple[str | int | float | None, ...] = ()
    pair: tuple[str, int] = ("", 0)
    names: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    passed: bool = False


WHOLE = {
    "title": "t",
    "ratio": 1,
    "inner": {"name": "a", "shape": [2, 3]},
    "parts": [{"name": "b"}],
    "curve": [0.5, None],
    "cells": ["a", 1, 0.5, None],
    "pair": ["x", 3],
    "names": ["n"],
    "versions": {"keras": "3"},
    "facts": {"any": [None, {}]},
    "passed": True,
}


def test_valid_data_is_converted() -> None:
    built = record(Outer, WHOLE)
    assert built.inner == Inner("a", (2, 3))
    assert built.parts == (Inner("b"),)
    assert built.curve[0] == 0.5
    assert math.isnan(built.curve[1])
    assert built.cells == ("a", 1, 0.5, None)
    assert built.pair == ("x", 3)
    assert built.passed is True
    assert record(Outer, {"title": "t", "ratio": 0.5}) == Outer("t", 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": 3}, "title: expected text. Received 3"),
        ({"ratio": "1"}, "ratio: expected a number. Received '1'"),
        ({"ratio": True}, "ratio: expected a number. Received True"),
        ({"ratio": math.inf}, "ratio: expected a number. Received inf"),
        ({"ratio": 10**400}, "ratio: expected a number. Received 10000"),
        ({"inner": 3}, "inner: expected a table or null. Received 3"),
        ({"inner": {"name": "a", "shape": [1.5]}}, r"inner.shape\[0\]: expected a whole number"),
        ({"inner": {}}, "inner.name: is missing"),
        ({"parts": [{"name": "a"}, {"nme": 3}]}, r"parts\[1\].nme: unknown field"),
        ({"parts": {}}, "parts: expected a list"),
        ({"curve": ["x"]}, r"curve\[0\]: expected a number"),
        ({"cells": [[]]}, r"cells\[0\]: expected text or a whole number or a number or null"),
        ({"pair": ["x"]}, "pair: expected a list of 2"),
        ({"names": "abc"}, "names: expected a list"),
        ({"versions": {"keras": 3}}, "versions.keras: expected text"),
        ({"versions": []}, "versions: expected a table"),
        ({"facts": 3}, "facts: expected a table"),
        ({"passed": 1}, "passed: expected true or false"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_invalid_data_is_named_by_its_place(change, said) -> None:
    with pytest.raises(RecordFault, match=said) as caught:
        record(Outer, WHOLE | change)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("data", [None, [], 3, "text"])
def test_data_that_is_not_a_table_is_refused(data) -> None:
    with pytest.raises(RecordFault, match="expected a table"):
        record(Outer, data)
