"""Data named on the command line."""

from pathlib import Path

import numpy as np
import pytest

from tfprune.commands.data_files import TEST, read_data
from tfprune.errors import DataError, OptionError

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6)


def test_inputs_alone_are_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.testing.assert_array_equal(read_data(str(tmp_path / "x.npy"), "--data"), X)
    np.savez(tmp_path / "x.npz", x=X)
    np.testing.assert_array_equal(read_data(str(tmp_path / "x.npz"), "--data"), X)


def test_large_inputs_are_not_read_into_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    assert isinstance(read_data(str(tmp_path / "x.npy"), "--data"), np.memmap)


def test_inputs_and_labels_are_a_pair(tmp_path: Path) -> None:
    path = str(tmp_path / "d.npz")
    np.savez(path, x=X, y=Y)
    inputs, labels = read_data(path, "--data")
    np.testing.assert_array_equal(inputs, X)
    np.testing.assert_array_equal(labels, Y)


def test_a_file_of_a_recipe_gives_the_part_that_is_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "d.npz")
    np.savez(path, x_train=X, y_train=Y, x_test=X + 1, y_test=Y + 1)
    np.testing.assert_array_equal(read_data(path, "--data")[1], Y)
    np.testing.assert_array_equal(read_data(path, "--data", TEST)[1], Y + 1)


def test_several_inputs_are_given_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "d.npz")
    np.savez(path, image=X, table=X, y=Y)
    inputs, labels = read_data(path, "--data")
    assert sorted(inputs) == ["image", "table"]
    np.testing.assert_array_equal(labels, Y)
    np.savez(path, image=X, table=X)
    assert sorted(read_data(path, "--data")) == ["image", "table"]


def test_a_function_returns_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loads_data.py").write_text("def train():\n    return [1, 2]\n")
    monkeypatch.chdir(tmp_path)
    assert read_data("loads_data:train", "--data") == [1, 2]
    with pytest.raises(OptionError, match="no function 'test'"):
        read_data("loads_data:test", "--data")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.npz", None, "no such file"),
        ("gone.npy", None, "no such file"),
        ("x.csv", b"1,2", "expected .npz with x and y"),
        ("x.npz", b"1,2", "not a valid .npz"),
        ("x.npy", b"1,2", "not a valid .npy"),
    ],
)
def test_another_file_is_refused(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"--data .*{name}.*{said}"):
        read_data(str(tmp_path / name), "--data")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a valid .npy"):
        read_data(str(tmp_path / "x.npy"), "--data")


def test_labels_alone_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", y=Y)
    with pytest.raises(DataError, match="Received y"):
        read_data(str(tmp_path / "d.npz"), "--data")
