"""The table of models and verbs: its notes, its cells, and going on after an end."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tfprune.errors import ModelError

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def verbs() -> ModuleType:
    return _module("verbs")


@pytest.fixture(scope="module")
def cells() -> ModuleType:
    return _module("verb_cells")


def _module(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


def test_refusals_that_differ_in_names_and_numbers_share_a_note(verbs: ModuleType) -> None:
    notes = verbs.Notes()
    told = [
        "layer 'lstm' (keras.LSTM) has no rule",
        "layer 'lstm_1' (keras.LSTM) has no rule",
        "layer 'lstm' (keras.GRU) has no rule",
        "layer 'mine' (architectures.One) has no rule in a/b/c",
        "layer 'mine' (architectures.Other) has no rule in a/d",
    ]
    assert [notes.number("refused", text) for text in told] == [1, 1, 2, 3, 3]
    assert notes.number("fault", told[0]) == 4
    shown = list(notes.shown())
    assert told[0] in shown[0]
    assert "2 cells" in shown[0]
    assert "FAULT" in shown[3]
    assert len(shown) == 4


def test_the_last_row_counts_what_was_done(verbs: ModuleType) -> None:
    found = {
        ("a", "units"): {"done": "3 groups"},
        ("b", "units"): {"refused": "no"},
        ("a", "int8"): {"fault": "ValueError"},
    }
    counts = dict(zip(verbs.VERBS, verbs.sums(found, list(verbs.VERBS)), strict=True))
    assert (counts["units"], counts["int8"], counts["ONNX"]) == ("1 of 2", "0 of 1", "0 of 0")


def test_an_exception_becomes_a_refusal_or_a_fault(cells: ModuleType) -> None:
    def refusing(one):
        raise ModelError("not\nthis one")

    def failing(one):
        raise ValueError("a bug")

    assert cells.outcome(None, refusing) == {"refused": "not this one"}
    fault = cells.outcome(None, failing)["fault"]
    assert fault.startswith("ValueError at benchmarks/test_verbs.py")
    assert fault.endswith(": a bug")


def test_a_finished_cell_is_not_done_again(
    verbs: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    name = "actor and critic"
    first = {"name": name, "verb": "units", "done": "1 group", "seconds": 1.0}
    cut = '{"name": "actor and critic", "verb": "shr'
    (tmp_path / "cells.jsonl").write_text(json.dumps(first) + "\n" + cut)
    verbs.finish(tmp_path, [name], ["units", "shrink"], 300.0)
    found = verbs.read_cells(tmp_path)
    assert list(found) == [(name, "units"), (name, "shrink")]
    assert found[name, "units"] == first
    assert "% left" in found[name, "shrink"]["done"]


def test_what_ends_the_process_is_a_fault_of_its_cell_alone(
    verbs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is too short for any cell; each one is a fault, and none is left out."""
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    keys = [("actor and critic", "units"), ("actor and critic", "shrink")]
    found = list(verbs.outcomes(keys, limit_s=0.2))
    assert [(cell["name"], cell["verb"]) for cell in found] == keys
    assert all("took longer than its limit" in cell["fault"] for cell in found)
