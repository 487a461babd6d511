"""Runs of the command in a process of its own, which tests kill and begin again."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def resumed_run(out: Path, settings: Iterable[str]) -> subprocess.Popen:
    """Begin a run of the recipe quickstart in a folder, or go on with it.

    Args:
        out: The folder.
        settings: Changes of the recipe, TABLE.KEY=VALUE each.
    """
    words = [word for setting in settings for word in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, "-m", "tfprune.cli", "run", "quickstart", *words, "--out", str(out),
         "--resume"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip
