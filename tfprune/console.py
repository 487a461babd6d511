"""Output of the command: one-line messages, and progress as a bar or as plain lines."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from tfprune.utils.progress import Progress, Task

PLAIN_SECONDS = 10.0
"""Seconds between two plain lines on the progress of a task."""


def print_result(text: str = "") -> None:
    """Print a result to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """Print an error to standard error, each line prefixed with the name of the command."""
    for line in text.splitlines():
        sys.stderr.write(f"tfprune: {line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    """Yield a progress for standard error: a bar on a terminal, lines of text elsewhere."""
    if not sys.stderr.isatty():
        yield PlainProgress(sys.stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield BarProgress(bars)


class BarProgress:
    """Progress bars of rich, each with the time left; a finished one shows the time it took."""

    def __init__(self, bars: "Bars") -> None:  # type: ignore[name-defined]  # noqa: F821
        self._bars = bars

    @contextlib.contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        bar = self._bars.add_task(name, total=total)
        yield _Bar(self._bars, bar)
        done = total if total else 1
        self._bars.update(bar, total=done, completed=done)


class _Bar:
    def __init__(self, bars: "Bars", bar: int) -> None:  # type: ignore[name-defined]  # noqa: F821
        self._bars = bars
        self._bar = bar

    def advance(self, steps: float = 1) -> None:
        self._bars.update(self._bar, advance=steps)


class PlainProgress:
    """Progress as lines: when a task begins, every few seconds while it runs, when it is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextlib.contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        lines = _Lines(self._stream, name, total)
        lines.write("begins")
        yield lines
        lines.write(f"done in {duration(time.monotonic() - lines.start)}")


class _Lines:
    def __init__(self, stream: TextIO, name: str, total: float | None) -> None:
        self._stream = stream
        self._name = name
        self._total = total
        self._done = 0.0
        self.start = self._last_write = time.monotonic()

    def write(self, text: str) -> None:
        self._stream.write(f"{self._name}: {text}\n")
        self._stream.flush()

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if not self._total or now - self._last_write < PLAIN_SECONDS:
            return
        self._last_write = now
        part = self._done / self._total
        # The first steps compile, so their speed does not predict the rest.
        left = (
            f", about {duration((now - self.start) * (1 / part - 1))} left" if part > 0.02 else ""
        )
        self.write(f"{part:.0%}{left}")


def duration(seconds: float) -> str:
    """Return a duration as text.

    Example:
        >>> duration(3.21), duration(75), duration(4000)
        ('3.2 s', '1 min 15 s', '1 h 6 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
