"""Where native output goes while a command works."""

import os
import sys
from pathlib import Path

import pytest

from tfprune.commands.output import native_output


def test_native_messages_go_to_a_file_and_ours_are_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    with native_output(tmp_path / "logs" / "native.txt"):
        os.write(2, b"from native code\n")
        sys.stderr.write("from Python\n")
    os.write(2, b"afterwards\n")
    assert (tmp_path / "logs" / "native.txt").read_text() == "from native code\n"
    shown = capfd.readouterr().err
    assert "from native code" not in shown
    assert "from Python\n" in shown
    assert "afterwards\n" in shown


def test_an_error_inside_does_not_keep_the_redirection(capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(KeyError), native_output():
        raise KeyError
    os.write(2, b"shown\n")
    assert capfd.readouterr().err == "shown\n"
