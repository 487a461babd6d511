"""Damaged and hostile archives: one line each, and nothing that is only declared is allocated."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfprune.storage.archives import ArchiveFault, open_archive


def written(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def npy(array: np.ndarray, **fields: object) -> bytes:
    """An array as it stands in an archive, with some of its header changed."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **fields}
    text = f"{header!r}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + array.tobytes()


def read(path: Path, most_bytes: float = 1e9) -> dict[str, np.ndarray]:
    with open_archive(path) as archive:
        return {name: archive.read(name, most_bytes) for name in archive.names}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(save, tmp_path: Path) -> None:
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "none": np.zeros((0, 4), np.int8),
        "one": np.array(3),
        "text": np.array("a\nb"),
        "long": np.zeros(10**6),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


X = np.arange(4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(X, shape=(10**18,)), "'x' declares 8000000000000000000 bytes and has 32"),
        (npy(X, shape=(2**40,)), "'x' declares 8796093022208 bytes and has 32"),
        (npy(X, shape=(-2, -2)), "'x' declares 32 bytes"),
        (npy(X, shape=(3,)), "'x' declares 24 bytes and has 32"),
        (npy(X, shape="x"), "shape is not valid"),
        (npy(X, descr="|O"), "contains Python objects, which are not read"),
        (npy(X, descr="nonsense"), "descr is not a valid dtype"),
        (npy(X)[:9], "EOF: reading array header"),
        (b"\x93NUMPY\x01\x00\x05\x00" + b"{'a':" + b"x" * 9, "header of an array is damaged"),
        (b"\x93NUMPY\x01\x00\xff\x0f" + b"(" * 4095, "header of an array is damaged"),
        (b"\x93NUMPY\x03\x00" + npy(X)[8:], "'x' is not a plain array"),
        (b"pickled!!", "the magic string is not correct"),
        (b"", "EOF"),
    ],
    ids=range(13),
)
def test_a_damaged_array_is_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", [("x.npy", content)])
    with pytest.raises(ArchiveFault, match=said) as caught:
        read(path)
    assert str(caught.value).strip()
    assert "\n" not in str(caught.value)


def test_an_array_twice_or_of_another_method_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = written(tmp_path / "twice.npz", [("x.npy", npy(X)), ("x.npy", npy(X))])
    with pytest.raises(ArchiveFault, match="it contains 'x' twice"):
        read(path)
    path = written(tmp_path / "lzma.npz", [("x.npy", npy(X))], zipfile.ZIP_LZMA)
    with pytest.raises(ArchiveFault, match="uses a compression method that numpy does not write"):
        read(path)


@pytest.mark.parametrize(
    ("offset", "changed", "said"),
    [
        (8, struct.pack("<H", 0x1), "'x' is encrypted"),
        (10, struct.pack("<H", 99), "uses a compression method"),
        (24, struct.pack("<I", 0x7FFFFFFF), "declares 2147483647 bytes and stores \\d+"),
        (6, struct.pack("<H", 99), "version 9.9"),
    ],
)
def test_a_changed_table_of_contents_is_one_line(offset, changed, said, tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", [("x.npy", npy(X))])
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") + offset
    content[start : start + len(changed)] = changed
    path.write_bytes(content)
    with pytest.raises(ArchiveFault, match=said):
        read(path)


def test_other_files_are_refused_as_not_archives(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "text").write_text("hello")
    for name, said in (("one.npy", "a single array without a name"), ("text", "not a zip file"),
                       (".", "it is not a file")):  # fmt: skip
        with pytest.raises(ArchiveFault, match=said):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone.npz")


def test_an_error_inside_the_block_is_not_changed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X)
    with pytest.raises(ZeroDivisionError), open_archive(tmp_path / "a.npz"):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="of its own"), open_archive(tmp_path / "a.npz"):
        raise ValueError("of its own")


def test_a_limit_is_kept_and_a_missing_name_named(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, x=np.zeros(10**7))
    path = tmp_path / "bomb.npz"
    path.write_bytes(content.getvalue())
    with pytest.raises(ArchiveFault, match="'x' takes 80000000 bytes, more than 1000000"):
        read(path, 1e6)
    with (
        open_archive(path) as archive,
        pytest.raises(ArchiveFault, match="it does not contain 'y'"),
    ):
        archive.read("y")
