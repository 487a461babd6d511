"""What a subcommand is, and the exit codes."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: done; the work failed or a gate was missed; the call, recipe or file was wrong."""


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        name: The word after `tfprune`.
        summary: One sentence for help.
        example: A call, for help.
        options: Declares its options.
        work: Does it, and returns the exit code.
    """

    name: str
    summary: str
    example: str
    options: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace], int]
