"""What an HDF5 file holds: its size, links to other places, names that Windows wrote."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tfprune.loading.stored import FREE_BYTES, examine_h5, use_slashes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers/d/vars/0"] = np.ones((3, 2), np.float32)
    return tmp_path / "w.h5"


def test_the_contents_of_a_complete_file_are_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = "{}"
    assert examine_h5(str(path)) == {
        "model_config": None, "keras_version": None, "training_config": "{}", "bytes": 24,
        "backslashes": False,
    }  # fmt: skip


def test_a_file_that_refers_to_others_is_refused(path: Path) -> None:
    """The content of another file would become a weight of the model."""
    secret = path.with_name("secret")
    secret.write_bytes(b"0" * 8)
    for name, put in {
        "external link": lambda f: f.__setitem__("x", h5py.ExternalLink(str(secret), "/")),
        "soft link": lambda f: f.__setitem__("layers/x", h5py.SoftLink("/layers/d")),
        "external data": lambda f: f.create_dataset(
            "x", (2,), "f4", external=[(str(secret), 0, 8)]
        ),
        "virtual data": lambda f: f.create_virtual_dataset("x", h5py.VirtualLayout((2,), "f4")),
    }.items():
        copy = path.with_name(f"{name}.h5")
        copy.write_bytes(path.read_bytes())
        with h5py.File(copy, "r+") as file:
            put(file)
        with pytest.raises(ValueError, match="x (is a link to another file|is in another file)"):
            examine_h5(str(copy))


def test_arrays_that_were_never_written_do_not_count_as_weights(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for number in range(100):
            file.create_dataset(str(number), (FREE_BYTES // 8,), "i1", chunks=(1024,))
        file.create_dataset("filler", data=np.random.default_rng(0).integers(0, 9, 900_000))
    with pytest.raises(ValueError, match=r"its arrays declare \d+ bytes"):
        examine_h5(str(path))


def test_names_with_backslashes_are_changed(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.move("layers/d", "layers\\d")
        del file["layers"]
        file["layers\\e\\vars/0"] = np.zeros(2)
    assert examine_h5(str(path))["backslashes"]
    use_slashes(str(path))
    assert not examine_h5(str(path))["backslashes"]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["layers/d/vars/0"], np.ones((3, 2)))
        assert file["layers/e/vars/0"].shape == (2,)
