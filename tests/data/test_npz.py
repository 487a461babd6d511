"""Arrays of an `.npz`, and the pairs in them."""

from pathlib import Path

import numpy as np
import pytest

from tfprune.data.npz import pairs_in, read_npz
from tfprune.errors import DataError


def test_the_arrays_of_a_file_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.arange(3) % 2)
    found = read_npz(str(tmp_path / "a.npz"), "mine")
    assert {name: array.tolist() for name, array in found.items()} == {
        "x": [0, 1, 2], "y": [0, 1, 0]
    }  # fmt: skip


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^mine: no such file\.$"):
        read_npz(str(tmp_path / "none.npz"), "mine")
    (tmp_path / "bad.npz").write_bytes(b"PK, or not")
    with pytest.raises(DataError, match=r"^mine: not a valid \.npz of plain arrays"):
        read_npz(str(tmp_path / "bad.npz"), "mine")


def test_pairs_are_those_without_a_part_and_those_of_a_part() -> None:
    arrays = {"x": np.zeros(1), "x_test": np.ones(2), "y_test": np.ones(2), "x_train": np.zeros(3)}
    found = [(x.size, None if y is None else y.size) for x, y in pairs_in(arrays, "test")]
    assert found == [(1, None), (2, 2)]
