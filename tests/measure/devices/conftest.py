"""Stand-ins for the programs that reach other machines: they run the file and say they are fake."""

import os
import stat
import sys
from pathlib import Path

import pytest

from tfprune.measure.devices import adb
from tfprune.measure.devices.adb import TOOL_VARIABLE
from tfprune.measure.devices.ssh import PYTHON_VARIABLE

STAND_IN = Path(__file__).parent / "stand_in"


def program(path: Path, script: Path, options: str = "") -> Path:
    """Write a program that runs one of the stand-ins in this Python."""
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "{script}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def phone(tmp_path, monkeypatch) -> Path:
    """The folder that plays the device, with adb in the path and the program named."""
    root = tmp_path / "device"
    root.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    program(tools / "adb", STAND_IN / "adb.py", "-IS")
    tool = program(tmp_path / "benchmark_model", STAND_IN / "benchmark_model.py")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_ADB_ROOT", str(root))
    monkeypatch.setattr(adb, "MIN_ROUNDS", 1)
    monkeypatch.setenv(TOOL_VARIABLE, str(tool))
    return root


@pytest.fixture
def far(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files of the far machine, with ssh and scp in the path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("ssh", "scp"):
        program(tools / name, STAND_IN / "ssh.py", "-IS")
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(there))
    monkeypatch.setenv("FAKE_SSH_COUNT", str(tmp_path / "count"))
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    return there
