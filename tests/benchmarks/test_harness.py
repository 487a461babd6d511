"""The harness of the benchmarks: turns, ratios, and what it stores."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def harness() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("harness")
    sys.path.remove(str(FOLDER))


def test_cases_take_turns_and_every_round_begins_with_another(harness) -> None:
    order = []
    cases = {name: lambda name=name: order.append(name) or ord(name) for name in "abc"}
    found = harness.take_turns(cases, rounds=3)
    assert "".join(order) == "abcbcacab"
    assert found == {name: [ord(name)] * 3 for name in "abc"}


def test_ratios_are_taken_round_by_round(harness) -> None:
    # The machine slows down from round to round; "b" always takes half as long.
    ratios = harness.ratios_to("a", {"a": [1.0, 4.0, 9.0], "b": [0.5, 2.0, 4.5]})
    assert (ratios["b"].median, ratios["b"].q1, ratios["b"].q3) == (0.5, 0.5, 0.5)
    assert ratios["a"].median == 1.0


def test_a_result_is_printed_and_stored_with_its_conditions(harness, tmp_path, capsys) -> None:
    harness.publish(
        "demo",
        title="Demo",
        columns=("case", "figure"),
        rows=[("a", "1.00 ms")],
        numbers={"a": [1.0]},
        seeds=[0, 1],
        remarks=["Nothing was measured."],
        folder=tmp_path,
    )
    text = (tmp_path / "demo.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "| a | 1.00 ms |" in text
    assert "Nothing was measured." in text
    record = json.loads((tmp_path / "demo.json").read_text())
    assert record["numbers"] == {"a": [1.0]}
    assert record["seeds"] == [0, 1]
    assert record["host"] == harness.host()
    assert record["versions"]["tfprune"] in text
