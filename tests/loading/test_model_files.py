"""The kind of a model file and the code in it are read without running it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from tfprune.errors import ArtifactError
from tfprune.loading.allowed import code_in
from tfprune.loading.model_files import ModelFile, read_metadata
from tfprune.loading.stored import read_h5


@keras.saving.register_keras_serializable("formats")
class Registered(keras.layers.Dense):
    pass


def test_the_version_of_keras_is_read_from_a_file(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for suffix, name in ((".keras", "keras"), (".h5", "h5")):
        path = tmp_path / f"m{suffix}"
        model.save(path)
        found = read_metadata(path)
        assert (found.format, found.version, found.generation) == (name, keras.__version__, 3)


@pytest.mark.parametrize(
    ("version", "config", "generation"),
    [
        ("2.15.0", {}, 2),
        ("3.0.0", {"batch_input_shape": [None, 1]}, 3),
        ("1.2.2", {}, 1),
        ("", {"layers": [{"config": {"batch_input_shape": [None, 1]}}]}, 2),
        ("", {"module": "tf_keras.src.engine.functional"}, 2),
        ("", {"module": "keras.layers"}, 3),
    ],
)
def test_generations_are_told_apart(version: str, config: Any, generation: int) -> None:
    assert ModelFile(Path("m.keras"), "keras", version, config).generation == generation


def test_code_is_named() -> None:
    config = [
        {"class_name": "Dense", "module": "keras.layers", "config": {"name": "d"}},
        {"class_name": "Lambda", "config": {"name": "f"}},
        {"activation": {"class_name": "__lambda__", "config": {}}},
        {"class_name": "Popen", "module": "subprocess", "config": {}},
        {"class_name": "function", "module": "os", "config": "system"},
        {"class_name": "Registered", "module": "gone", "registered_name": "formats>Registered"},
        {"class_name": "Registered", "module": Registered.__module__},
    ]
    assert list(code_in(config)) == [
        "the Lambda layer 'f'", "a pickled function", "the class subprocess.Popen",
        "the class os.function",
    ]  # fmt: skip


def test_everything_in_an_hdf5_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential"})
        file["model_weights/d/kernel"] = np.ones((2, 2))
    assert read_h5(str(path)) == {
        "model_config": '{"class_name": "Sequential"}',
        "keras_version": None,
    }
    with h5py.File(path, "r+") as file:
        file.create_dataset("model_weights/huge", (1 << 40,), "f4", chunks=(1024,))
    with pytest.raises(ValueError, match="model_weights/huge declares"):
        read_h5(str(path))
    with pytest.raises(ArtifactError, match="a damaged HDF5 file: .*huge declares"):
        read_metadata(path)


def test_damaged_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    for content in (b"{", b"[" * 100_000, b"\xff"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", content)
        with pytest.raises(ArtifactError, match=r"config\.json is damaged"):
            read_metadata(path)


def test_a_config_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs.create("model_config", b'{"a\xdc": 1}', dtype=h5py.string_dtype("utf-8"))
        file.create_group("model_weights")
    assert read_metadata(path).config == {"a\ufffd": 1}
