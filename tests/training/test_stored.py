"""Checkpoints are replaced as a whole, and damaged ones are not used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfprune.training.stored import NotPlain, pack, store, stored, unpack


def write(text: str) -> Any:
    return lambda place: (place / "weights").write_text(text)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -0.5, "x", [1, [2]], (1, ("a",)), {"a": {"tuple": 1}, "array": [0]}, {}, []],
    ids=str,
)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    arrays: list[np.ndarray] = []
    assert unpack(pack(value, arrays), arrays) == value
    assert arrays == []


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, [print], np.array([None]), {3}],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(NotPlain):
        pack(value, [])


def test_the_last_checkpoint_is_read_with_its_arrays(tmp_path: Path) -> None:
    assert stored(tmp_path / "t") is None
    for number in range(3):
        state = {"epoch": number, "best": [np.full((2, 2), number, "float32"), np.float32(0.5)]}
        store(tmp_path / "t", state, write(f"of {number}"))
    place, state = stored(tmp_path / "t")
    assert (place / "weights").read_text() == "of 2"
    assert state["epoch"] == 2
    np.testing.assert_array_equal(state["best"][0], np.full((2, 2), 2, "float32"))
    assert [path.name for path in (tmp_path / "t").iterdir()] == [place.name]


def test_an_unfinished_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    store(tmp_path, {"epoch": 0}, write("whole"))

    def killed(place: Path) -> None:
        (place / "weights").write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, {"epoch": 1}, killed)
    place, state = stored(tmp_path)
    assert (state, (place / "weights").read_text()) == ({"epoch": 0}, "whole")
    store(tmp_path, {"epoch": 1}, write("next"))
    assert stored(tmp_path)[1] == {"epoch": 1}


def test_a_kill_before_the_former_is_removed_leaves_the_later_one(tmp_path: Path) -> None:
    store(tmp_path, {"epoch": 0}, write("a"))
    (tmp_path / "1").rename(tmp_path / "0")
    store(tmp_path, {"epoch": 1}, write("b"))
    (tmp_path / "7").mkdir()
    (tmp_path / "7").rename(tmp_path / "new")
    assert stored(tmp_path)[1] == {"epoch": 1}


@pytest.mark.parametrize("name", ["weights", "arrays.npz", "state.json"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_checkpoint_is_not_used_and_the_log_says_so(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, {"epoch": 0, "a": np.zeros(3)}, write("a"))
    path = tmp_path / "1" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert stored(tmp_path) is None
    assert f"{name}" in caplog.text
    assert "damaged; the training begins again" in caplog.text
