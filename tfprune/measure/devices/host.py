"""This machine as a device."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfprune.measure.devices.device import DeviceInfo, Sample
from tfprune.measure.devices.timing_client import ask, samples
from tfprune.measure.devices.timing_jobs import time_files
from tfprune.runtime.registry import runtimes


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
        """Yield the samples of a child process."""
        return samples(
            ask(time_files, files, list(schedule), names=names, threads=threads, shapes=shapes)
        )


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
