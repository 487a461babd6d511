"""The machines that a file can be timed on.

A device runs a schedule: one sample for each entry, in the order given. What is compared with what,
and all statistics, are the same for every device and live in `latency`.
"""

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfprune.errors import OptionError
from tfprune.measure.devices.timing_client import ask
from tfprune.runtime.registry import runtimes
from tfprune.utils.registry import Registry


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


devices: Registry[Callable[[str | None], Device]] = Registry("device")


def device_of(name: str) -> Device:
    """Return the device of a name: `host`, `adb`, `adb:SERIAL`.

    Raises:
        OptionError: No such device.
    """
    if not isinstance(name, str):
        raise OptionError(f"device: expected a name such as 'host' or 'adb:SERIAL', got {name!r}")
    kind, _, address = name.partition(":")
    return devices[kind](address or None)


@dataclass(frozen=True)
class Host:
    """This machine, through LiteRT or ONNX Runtime in a process of its own."""

    def info(self) -> DeviceInfo:
        """Name the processor and the installed runtime."""
        onnx = runtimes["onnx"]
        return DeviceInfo(
            machine=f"{processor()}, {os.cpu_count()} cores",
            system=f"{platform.system()} {platform.machine()}",
            runtime=runtimes["litert"].version,
            others={onnx.ending: onnx.version} if onnx.installed else {},
        )

    def clock(self, threads: int) -> str:
        """One thread is timed by its own CPU time, which other load does not falsify."""
        return "thread CPU time" if threads == 1 else "wall time"

    def rounds(self, runs: int) -> int:
        """Go round once for each run."""
        return runs

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
        """Yield the samples of the worker."""
        calls: list[int] = []
        answers = ask("time", files, names=names, threads=threads, schedule=schedule, shapes=shapes)
        for answer in answers:
            if "calls" in answer:
                calls = answer["calls"]
            elif "sample" in answer:
                yield Sample(answer["file"], answer["sample"], calls[answer["file"]])


@devices.register("host")
def host(address: str | None) -> Device:
    """Return this machine."""
    if address is not None:
        raise OptionError(f"device 'host:{address}': this machine has no address. Use 'host'")
    return Host()


@devices.register("adb")
def adb(address: str | None) -> Device:
    """Return an Android device that is connected through adb."""
    from tfprune.measure.devices.adb import connect

    return connect(address)


@devices.register("ssh")
def ssh(address: str | None) -> Device:
    """Return a machine that is reached through ssh, such as a Raspberry Pi."""
    from tfprune.measure.devices.ssh import Ssh

    if address is None or address.startswith("-"):  # which ssh would take for an option
        raise OptionError(
            f"device 'ssh': say which machine, like ssh:pi@raspberrypi. Received {address}"
        )
    return Ssh(address)


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except FileNotFoundError:
        pass  # not Linux
    return platform.processor() or platform.machine()
