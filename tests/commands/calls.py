"""The command, in this process and in one of its own."""

import subprocess
import sys

from tfprune import cli

HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "sklearn", "rich")


def call(*words: str, code: str = "") -> subprocess.CompletedProcess:
    """Run the command in a process of its own, which lists the heavy modules it loaded."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *"
        f"[m for m in {HEAVY} if m in sys.modules], file=sys.stderr))\n"
        f"{code}\n"
        "from tfprune.cli import main\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def loaded(done: subprocess.CompletedProcess) -> list[str]:
    return done.stderr.splitlines()[-1].split()[1:]


def tfprune_command(words: str) -> int:
    """Run the command in this process, and return its exit code."""
    return cli.execute(cli.parse(["tfprune", *words.split()]))
