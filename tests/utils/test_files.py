import os
from pathlib import Path

import pytest

from tfprune.errors import ArtefactError, OptionError
from tfprune.utils.files import as_path, check_destination, read_bytes, write_atomic


def test_text_and_bytes_are_written_and_folders_made(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "a" / "b.txt", "ä").read_bytes() == "ä".encode()
    assert write_atomic(tmp_path / "c.bin", b"\x00\x01").read_bytes() == b"\x00\x01"


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    target = write_atomic(tmp_path / "kept.txt", "old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_where_nothing_can_be_written_is_known_before(tmp_path: Path) -> None:
    file = write_atomic(tmp_path / "file", "text")
    wrong = [(tmp_path, "is a folder; give the name of a file in it"),
             (file / "x" / "y", "lies below .*file, a file; name another place"),
             (None, "expected the name of a file, got None"),
             (3, "expected the name of a file, got 3")]  # fmt: skip
    if os.path.isdir("/proc"):
        wrong.append(("/proc/tfprune/x", "cannot be written to /proc .*; name another place"))
    for path, message in wrong:
        for write in (check_destination, lambda path: write_atomic(path, "text")):
            with pytest.raises(OptionError, match=f"path: .*{message}"):
                write(path)
    assert check_destination(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="gone: no such file; make it first"):
        read_bytes(tmp_path / "gone", "make it first")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_bytes(tmp_path, "make it first")
    with pytest.raises(OptionError, match="expected the name of a file, got None"):
        as_path(None)


@pytest.mark.parametrize(
    ("name", "text"), [("a" * 300, "File name too long"), ("a\0b", "no null character")]
)
def test_a_name_that_no_file_can_have_is_refused(name, text, tmp_path):
    with pytest.raises(OptionError, match=f"path: .*{text}"):
        check_destination(tmp_path / name)
