"""The reference files are whole, run, and are as accurate as is stated beside them."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tfprune.pipeline.datasets import load_data
from tfprune.pipeline.saving import load_artifact
from tfprune.recipe import parse_recipe
from tfprune.report import Report
from tfprune.runtime.artifact import sha256
from tfprune.runtime.litert import Runner

FOLDER = Path(__file__).parents[2] / "tflite_models"
MODELS = sorted(FOLDER.glob("*.tflite"))


def measured(path: Path) -> Report:
    return Report.from_json(path.with_suffix(".report.json").read_text())


def test_there_is_a_model() -> None:
    assert [path.stem for path in MODELS] == ["quickstart"]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_report_beside_a_file_describes_that_file(path: Path) -> None:
    artifact = load_artifact(path)
    row = measured(path).rows[1]
    assert artifact.report.sha256 == row.sha256 == sha256(path.read_bytes())
    assert row.raw_bytes == path.stat().st_size
    assert json.loads(path.with_suffix(".json").read_text())["scheme"] == row.scheme


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_file_has_the_accuracy_that_is_stated(path: Path) -> None:
    report = measured(path)
    table = parse_recipe(tomllib.loads(report.recipe)).data
    assert table is not None
    test = load_data(table).test
    assert len(test) == report.samples
    accuracy = float(np.mean(Runner(path)(test.x).argmax(-1) == test.y))
    assert accuracy == pytest.approx(report.rows[1].score)
    stated = next(line for line in (FOLDER / "README.md").read_text().splitlines()
                  if line.startswith(f"| `{path.name}`"))  # fmt: skip
    assert f"{accuracy:.4f} of {len(test)} test images" in stated
