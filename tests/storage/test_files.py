import os
import stat
from pathlib import Path

import pytest

from tfprune.errors import ArtifactError, OptionError
from tfprune.storage.files import as_path, check_destination, parse_json, read_bytes, write_atomic
from tfprune.storage.scratch import open_beside


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


def test_a_path_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    file = write_atomic(tmp_path / "file", "text")
    wrong = [(tmp_path, "is a folder; give the name of a file in it"),
             (file / "x" / "y", "is below .*file, a file; choose another path"),
             (None, "expected a file name. Received None"),
             (3, "expected a file name. Received 3")]  # fmt: skip
    if os.path.isdir("/proc"):
        wrong.append(("/proc/tfprune/x", "cannot write to /proc .*; choose another path"))
    for path, message in wrong:
        for write in (check_destination, lambda path: write_atomic(path, "text")):
            with pytest.raises(OptionError, match=f"path: .*{message}"):
                write(path)
    assert check_destination(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="gone: no such file; make it first"):
        read_bytes(tmp_path / "gone", "make it first")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_bytes(tmp_path, "make it first")
    with pytest.raises(ArtifactError, match="/dev/zero: is a device; name a file"):
        read_bytes("/dev/zero", "make it first")
    with pytest.raises(OptionError, match="expected a file name. Received None"):
        as_path(None)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a" * 300, "File name too long"), ("a\0b", "cannot contain a null character")],
)
def test_a_name_that_no_file_can_have_is_refused(name, text, tmp_path):
    with pytest.raises(OptionError, match=f"path: .*{text}"):
        check_destination(tmp_path / name)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_new_file_has_the_usual_permissions_and_an_old_one_keeps_its_own(
    umask, mode, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        target = write_atomic(tmp_path / "new" / "file", "text")
        assert stat.S_IMODE(target.stat().st_mode) == mode
        assert stat.S_IMODE(target.parent.stat().st_mode) == mode | (mode & 0o444) >> 2
        target.chmod(0o640)
        write_atomic(target, "other")
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_the_target_of_a_link_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").symlink_to("disk/there")
    for text in ("new", "old"):
        write_atomic(tmp_path / "here", text)
        assert (tmp_path / "here").is_symlink()
        assert (tmp_path / "disk" / "there").read_text() == text
    assert sorted(os.listdir(tmp_path)) == ["disk", "here"]
    assert os.listdir(tmp_path / "disk") == ["there"]


def test_a_link_that_leads_nowhere_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "nowhere").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    wrong = {
        "round": "Too many levels of symbolic links",
        "round/x": "Too many levels of symbolic links",
        "nowhere/x": "is below .*nowhere, a broken link",
        "pipe": "is a device or a pipe",
    }
    for name, said in wrong.items():
        with pytest.raises(OptionError, match=f"path: .*{said}"):
            write_atomic(tmp_path / name, "text")
    assert sorted(os.listdir(tmp_path)) == ["nowhere", "pipe", "round"]
    with pytest.raises(OptionError, match="is a device or a pipe"):
        check_destination("/dev/null")


def test_unfinished_files_of_a_killed_process_are_removed_with_the_next_write(
    tmp_path: Path,
) -> None:
    abandoned = [tmp_path / ".kept.txt.0123abcd"]
    others = [tmp_path / name for name in (".kept.txt.backup", ".kept.txt.0123abcd.x", "kept.old")]
    for path in (*abandoned, *others):
        path.write_text("half")
    handle, held = open_beside(tmp_path / "kept.txt")
    assert not abandoned[0].exists()
    write_atomic(tmp_path / "kept.txt", "whole")
    assert held.exists()
    assert all(path.exists() for path in others)
    os.close(handle)
    write_atomic(tmp_path / "kept.txt", "whole")
    assert not held.exists()


@pytest.mark.parametrize("text", ["[NaN]", "[Infinity]", "{", "[" * 10**5, b"\xff", "1" * 5000, ""])
def test_what_is_no_json_is_one_line(text) -> None:
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
