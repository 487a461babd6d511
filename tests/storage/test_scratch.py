"""Temporary folders: gone after use, and swept away when their process was killed, only then."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tfprune.storage.scratch import open_beside, scratch_folder, sweep

WORK = """
from pathlib import Path
from tfprune.storage.scratch import scratch_folder
with scratch_folder() as folder:
    (Path(folder) / "large").write_bytes(bytes(1000))
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, for this process and those it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def start() -> tuple[subprocess.Popen, Path]:
    """Begin work in another process, and return it with its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip()).parent


def test_a_folder_is_removed_after_use(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent.parent == temporary
        assert os.listdir(folder) == []
        (folder / "file").touch()
    assert os.listdir(temporary) == []


def test_only_folders_of_killed_processes_are_removed(temporary: Path) -> None:
    killed, left = start()
    working, held = start()
    others = [temporary / "tfprune-mymodel1", temporary / "tfprune-a", temporary / "else-abcdefgh"]
    for folder in others:
        folder.mkdir()
        (folder / ".lock").touch()  # as a run's folder has it
    (temporary / "tfprune-linkaaaa").symlink_to(others[0])
    (temporary / "tfprune-fileaaaa").touch()
    killed.kill()
    killed.communicate()
    assert (left / "files" / "large").exists()
    with scratch_folder() as own:
        sweep()
        assert own.exists()
        assert not left.exists()
        assert (held / "files" / "large").exists()
        assert all((folder / ".lock").exists() for folder in others)
        assert (temporary / "tfprune-fileaaaa").exists()
    working.communicate("\n")
    assert working.returncode == 0
    assert not held.exists()


def test_the_next_run_removes_old_folders(temporary: Path) -> None:
    killed, left = start()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    running, folder = start()
    assert not left.exists()
    running.communicate("\n")
    assert not folder.exists()


def test_processes_that_start_at_once_remove_no_folder_in_use(temporary: Path) -> None:
    code = (
        "from tfprune.storage.scratch import scratch_folder, sweep\n"
        "for number in range(150):\n"
        "    with scratch_folder() as folder:\n"
        "        (folder / 'file').write_text('x')\n"
        "        sweep()\n"
        "        assert (folder / 'file').read_text() == 'x'\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert os.listdir(temporary) == []


def test_a_file_beside_another_is_new_each_time(tmp_path: Path) -> None:
    (one, first), (two, second) = (open_beside(tmp_path / "x.bin") for _ in range(2))
    assert first != second
    assert first.exists()
    for handle in (one, two):
        os.close(handle)
