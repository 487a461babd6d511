"""`tfprune init`."""

import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.commands.calls import tfprune_command
from tfprune.recipe import load_recipe


def test_a_recipe_for_the_model_is_valid(folder: Path, capsys: pytest.CaptureFixture) -> None:
    np.savez(folder / "data.npz", x_train=[0], y_train=[0], x_test=[0], y_test=[0])
    assert tfprune_command("init m.keras -o mine.toml") == 0
    assert "tfprune run mine.toml" in capsys.readouterr().out
    text = (folder / "mine.toml").read_text()
    assert "someones" in text
    assert "first (16)" in text
    assert set(tomllib.loads(text)) == {"model", "data", "shrink", "prune", "quantize", "gate"}
    assert load_recipe(folder / "mine.toml").model.source == str(folder / "m.keras")
    assert tfprune_command("init m.keras") == 0
    assert capsys.readouterr().out == text
    assert tfprune_command("init m.keras -o mine.toml") == 2
    assert "there is such a file" in capsys.readouterr().err


def test_a_recipe_names_only_what_can_be_done(folder: Path, capsys: pytest.CaptureFixture) -> None:
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(folder / "linear.keras")
    assert tfprune_command("init linear.keras") == 0
    assert set(tomllib.loads(capsys.readouterr().out)) == {
        "model", "data", "prune", "quantize", "gate"
    }  # fmt: skip


def test_another_ending_is_refused(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert tfprune_command("init m.keras -o r.yaml") == 2
    assert "expected a name ending in .toml" in capsys.readouterr().err
