"""The finished cells that a killed study finds when it starts again."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "cells.py"


@pytest.fixture(scope="module")
def cells() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cells", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("cut", ['{"seed": 2, "fo', '{"seed": 2, "costs": {"macs": 1}'])
def test_a_truncated_cell_is_ignored_and_the_others_are_read(cells, tmp_path, cut: str) -> None:
    assert list(cells.read(tmp_path)) == []
    cells.store(tmp_path, {"seed": 1})
    with open(tmp_path / cells.FILE, "a") as file:
        file.write(cut)
    assert list(cells.read(tmp_path)) == [{"seed": 1}]
    cells.store(tmp_path, {"seed": 3})
    assert list(cells.read(tmp_path)) == [{"seed": 1}, {"seed": 3}]


def test_cells_of_another_budget_are_refused(cells, tmp_path) -> None:
    cells.check_budget(tmp_path, {"images": 1, "seed": 2}, {"images": 1})
    with pytest.raises(SystemExit, match="made with another images; give another --work"):
        cells.check_budget(tmp_path, {"images": 1}, {"images": 2})
