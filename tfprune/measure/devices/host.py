"""This machine as a device."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfprune.measure.devices.device import DeviceInfo, Sample
from tfprune.measure.devices.timing_client import ask
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
        """Yield the samples of the worker."""
        calls: list[int] = []
        answers = ask("time", files, names=names, threads=threads, schedule=schedule, shapes=shapes)
        for answer in answers:
            if "calls" in answer:
                calls = answer["calls"]
            elif "sample" in answer:
                yield Sample(answer["file"], answer["sample"], calls[answer["file"]])


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
