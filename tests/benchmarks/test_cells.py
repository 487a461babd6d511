"""What a study that was killed finds of itself."""

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
def test_a_cell_that_was_cut_off_does_not_count_and_harms_no_other(
    cells, tmp_path, cut: str
) -> None:
    assert list(cells.read(tmp_path)) == []
    cells.store(tmp_path, {"seed": 1})
    with open(tmp_path / cells.FILE, "a") as file:
        file.write(cut)
    assert list(cells.read(tmp_path)) == [{"seed": 1}]
    cells.store(tmp_path, {"seed": 3})
    assert list(cells.read(tmp_path)) == [{"seed": 1}, {"seed": 3}]


def test_another_budget_is_refused(cells, tmp_path) -> None:
    cells.check_budget(tmp_path, {"images": 1, "seed": 2}, {"images": 1})
    with pytest.raises(SystemExit, match="made with another images; give another --work"):
        cells.check_budget(tmp_path, {"images": 1}, {"images": 2})
