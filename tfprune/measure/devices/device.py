"""The machines that can time a file.

A device runs a schedule: one sample for each entry, in order. Comparison and statistics are the
same for every device, in `latency`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class DeviceInfo:
    """A description of a device: the processor or phone, its system, and the runtime.

    Attributes:
        machine: The processor, or the phone.
        system: The operating system.
        runtime: The runtime of `.tflite` files there, with its version.
        fake: Marks a fake device: its figures are kept separate and never printed.
        others: The runtimes of other files there, by the ending of their names.
    """

    machine: str
    system: str
    runtime: str
    fake: bool = False
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One figure of one file: the mean of `calls` calls that ran back to back."""

    file: int
    ms: float
    calls: int


class Device(Protocol):
    """A machine that runs `.tflite` files and times them.

    Register a function that creates one from the part of the name after the colon (or None):

    Example:
        @devices.register("board")
        def board(address: str | None) -> Device: ...
    """

    def info(self) -> DeviceInfo:
        """Return a description of the device."""

    def clock(self, threads: int) -> str:
        """Return the name of the clock for a run with `threads` threads."""

    def rounds(self, runs: int) -> int:
        """Return how often to repeat the schedule for `runs` runs of each file."""

    def run(
        self,
        files: Sequence[Path],
        schedule: Sequence[int],
        *,
        names: Sequence[str],
        threads: int,
        runs: int,
        shapes: Mapping[str, Sequence[int]],
    ) -> Iterator[Sample]:
        """Yield one sample for each entry of the schedule, in its order."""
