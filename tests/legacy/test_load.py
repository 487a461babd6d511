"""Loading models: whole files load, all others are refused with one line."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tfprune.errors import ArtefactError
from tfprune.legacy.load import load_model


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_whole_file_loads(model: keras.Model, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    model.save(path)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(load_model(path)(x), model(x))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_truncated_file_is_refused(
    model: keras.Model, suffix: str, part: float, tmp_path: Path
) -> None:
    path = tmp_path / f"m{suffix}"
    model.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ArtefactError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_damaged_archive_is_refused(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    model.save(path)
    content = bytearray(path.read_bytes())
    where = content.index(b"\x89HDF")
    content[where : where + 8] = b"\0" * 8
    path.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match=r"model\.weights\.h5 inside of it is damaged"):
        load_model(path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such file"):
        load_model(tmp_path / "gone.keras")
    with pytest.raises(ArtefactError, match="a folder"):
        load_model(tmp_path)
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    (tmp_path / "x.npz").rename(tmp_path / "x.keras")
    with pytest.raises(ArtefactError, match=r"no config\.json inside"):
        load_model(tmp_path / "x.keras")
    (tmp_path / "x.pt").write_bytes(b"PK")
    with pytest.raises(ArtefactError, match="expected a name ending in"):
        load_model(tmp_path / "x.pt")
    (tmp_path / "x.h5").write_bytes(b"PK")
    with pytest.raises(ArtefactError, match="not an HDF5 file"):
        load_model(tmp_path / "x.h5")


def test_code_inside_of_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)]).save(path)
    with pytest.raises(ArtefactError, match="safe_mode") as error:
        load_model(path)
    assert "\n" not in str(error.value)
