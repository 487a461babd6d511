from pathlib import Path

import pytest

from tfprune.files import write_atomic


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
