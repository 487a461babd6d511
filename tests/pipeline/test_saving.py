"""The models and files of a run are complete or missing, never partial."""

import os
import shutil
import stat
from pathlib import Path

import keras
import pytest

from tfprune.errors import ArtifactError
from tfprune.pipeline import Result
from tfprune.pipeline.saving import load_artifact, save_model, saved_temporarily


def test_saving_replaces_at_once_and_leaves_no_optimizer(finished: Result, tmp_path: Path) -> None:
    assert finished.folder is not None
    before = finished.folder / "baseline.keras"
    model = keras.saving.load_model(before)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    path = tmp_path / "m.keras"
    path.write_bytes(b"old")
    save_model(model, path)
    assert model.compiled
    assert [file.name for file in tmp_path.iterdir()] == ["m.keras"]
    assert not keras.saving.load_model(path).compiled
    assert path.stat().st_size < 1.2 * before.stat().st_size


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o077, 0o600)])
def test_a_model_file_has_the_usual_permissions(umask: int, mode: int, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    before = os.umask(umask)
    try:
        save_model(model, tmp_path / "m.keras")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.keras").stat().st_mode) == mode


def test_a_temporary_file_is_removed(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with saved_temporarily(model, tmp_path) as path:
        assert keras.saving.load_model(path).count_params() == 3
        assert path.parent.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_a_file_without_its_report_is_named(finished: Result, tmp_path: Path) -> None:
    assert finished.folder is not None
    shutil.copy(finished.folder / "model.tflite", tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"model\.json: not a conversion report"):
        load_artifact(tmp_path / "model.tflite")
