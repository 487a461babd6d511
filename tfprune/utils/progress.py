"""Progress of long work, as an interface whose default shows nothing.

Library code takes a `Progress` and reports to it. The command passes one that draws a bar.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """A running piece of work."""

    def advance(self, steps: float = 1) -> None:
        """Report that `steps` more of the total are done."""


class Progress(Protocol):
    """The receiver of progress reports."""

    def task(self, name: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Open a task of `total` steps (None: unknown) for a `with` block."""


class _Silent:
    def advance(self, steps: float = 1) -> None:
        """Do nothing."""

    @contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        yield self


SILENT: Progress = _Silent()
"""The default: shows nothing."""
