"""Progress of long work, as an interface whose default shows nothing.

Library code takes a `Progress` and reports to it; it never asks whether anybody looks.
The command passes one that draws a bar.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: float = 1) -> None:
        """Say that `steps` more of the total are done."""


class Progress(Protocol):
    """Where long work reports to."""

    def task(self, name: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Open a task of `total` steps (None: not known) for the length of a `with` block."""


class _Silent:
    def advance(self, steps: float = 1) -> None:
        """Tell nobody."""

    @contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        yield self


SILENT: Progress = _Silent()
"""The default: work goes on and nothing is drawn."""
