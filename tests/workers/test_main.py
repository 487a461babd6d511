"""The child process: one JSON line in, one out, and it leaves when its parent does."""

import json
import subprocess

from tfprune.workers.process import module_command


def ask(*lines: str) -> list[dict]:
    """Start a child, give it lines, and return its answers."""
    done = subprocess.run(
        module_command("tfprune.workers.main", "converter"),
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_ends_when_its_input_does() -> None:
    assert ask() == []
