"""The machines that a file can be timed on.

A device runs a schedule: one sample for each entry, in the order given. What is compared with what,
and all statistics, are the same for every device and live in `latency`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is: the processor or phone, its system, and the runtime with its version.

    Attributes:
        machine: The processor, or the phone.
        system: The operating system.
        runtime: What runs `.tflite` files there, with its version.
        fake: Marks a stand-in for a device: its figures are kept apart and never printed.
        others: What runs other files there, by the ending of their names.
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
    """Something that runs `.tflite` files and says how long they took.

    Register a function that makes one from the part of the name after the colon (None without one):

    Example:
        @devices.register("board")
        def board(address: str | None) -> Device: ...
    """

    def info(self) -> DeviceInfo:
        """Say what the device is."""

    def clock(self, threads: int) -> str:
        """Name the clock that is read when a file runs in `threads` threads."""

    def rounds(self, runs: int) -> int:
        """Return how often the schedule should go round to give `runs` runs of each file."""

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
