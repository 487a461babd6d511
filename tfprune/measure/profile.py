"""Time of a file by kernel, with the runtime's names of kernels."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfprune.errors import OptionError
from tfprune.measure.devices.device import DeviceInfo
from tfprune.measure.devices.host import Host
from tfprune.measure.devices.litert_profile import check_version
from tfprune.measure.devices.timing_client import ask
from tfprune.measure.devices.timing_jobs import profile_file
from tfprune.measure.latency import check_counts, check_shapes
from tfprune.measure.sources import Source, name_of, staged
from tfprune.runtime.registry import of_ending
from tfprune.utils.progress import SILENT, Progress
from tfprune.utils.text_table import grid


@dataclass(frozen=True)
class KernelTime:
    """One step of a file as the runtime ran it.

    Attributes:
        name: The kernel, such as `Convolution (NCHW, F32) SPMM`, or the operation if the runtime's
            own kernel ran it.
        delegated: Whether a delegate (XNNPACK) ran it.
        median_us: Its median time in whole microseconds, as the runtime counts them.
    """

    name: str
    delegated: bool
    median_us: float


@dataclass(frozen=True)
class Profile:
    """The steps of a file in the order in which they ran.

    Attributes:
        name: The file.
        steps: One for each kernel that ran.
        runs: Number of runs of the medians.
        threads: Threads of the runtime.
        info: The machine and the runtime with its version.
    """

    name: str
    steps: tuple[KernelTime, ...]
    runs: int
    threads: int
    info: DeviceInfo

    def steps_named(self, part: str) -> tuple[KernelTime, ...]:
        """Return the steps whose kernel has `part` in its name, such as "SPMM"."""
        return tuple(step for step in self.steps if part in step.name)

    def by_kernel(self) -> dict[str, tuple[int, float]]:
        """Return the calls and microseconds of each kernel, longest first."""
        found: dict[str, tuple[int, float]] = {}
        for step in self.steps:
            calls, time_us = found.get(step.name, (0, 0.0))
            found[step.name] = calls + 1, time_us + step.median_us
        return dict(sorted(found.items(), key=lambda entry: -entry[1][1]))

    def __str__(self) -> str:
        total = sum(step.median_us for step in self.steps) or 1.0
        rows = [
            [name, str(calls), f"{time_us / 1e3:.3f}", f"{100 * time_us / total:.1f} %"]
            for name, (calls, time_us) in self.by_kernel().items()
        ]
        left = sorted({step.name for step in self.steps if not step.delegated})
        lines = [
            f"{self.name}: {len(self.steps)} steps, {total / 1e3:.4g} ms",
            grid(("kernel", "runs", "ms", "share"), rows),
            f"  medians of {self.runs} runs, {self.threads} thread(s), wall time in whole "
            f"microseconds, {self.info.machine}, {self.info.system}, {self.info.runtime}",
        ]
        if left:
            lines.append(f"  not run by XNNPACK: {', '.join(left)}")
        return "\n".join(lines)


def profile(
    source: Source,
    *,
    threads: int = 1,
    runs: int = 50,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = SILENT,
) -> Profile:
    """Measure the time of each kernel of a `.tflite` file on this machine.

    Unlike `benchmark`, it shows which kernels ran, such as sparse ones, and which operations the
    delegate did not run. Profiling slows a file down a little: use `benchmark` for latency.

    Args:
        source: An artifact, or the path or the bytes of a `.tflite` file.
        threads: Threads of the runtime.
        runs: Number of runs of the medians.
        input_shapes: Shapes by input name, for files with open sizes other than the batch.
        progress: Receives progress reports.

    Raises:
        OptionError: Less than one thread or run, another kind of file, or a version of the runtime
            whose profile cannot be read.
        ArtifactError: The file is missing, not a `.tflite`, or the runtime cannot run it.

    Example:
        print(profile("model.tflite"))
        profile("model.tflite").steps_named("SPMM")     # the sparse kernels that ran
    """
    check_counts(threads=threads, runs=runs)
    check_shapes(input_shapes)
    name = name_of(source)
    rounds: list[list[tuple[str, str, float]]] = []
    with staged([source]) as files, progress.task("profile", runs) as task:
        check_profiled(files[0], name)
        check_version()
        for answer in ask(
            profile_file, files, runs, names=[name], threads=threads, shapes=input_shapes
        ):
            if "events" in answer:
                rounds.append(answer["events"])
                task.advance()
    return Profile(name, steps_of(rounds), runs, threads, Host().info())


def check_profiled(file: str | os.PathLike[str], name: str | None = None) -> None:
    """Raise OptionError unless the name of a file ends in `.tflite`."""
    kind = of_ending(Path(file))
    if kind.ending != ".tflite":
        raise OptionError(f"{name or file}: only .tflite files can be profiled")


def steps_of(rounds: Sequence[Sequence[tuple[str, str, float]]]) -> tuple[KernelTime, ...]:
    """Return the steps of equal runs with their medians.

    The event of a delegate as a whole is skipped: its kernels are counted one by one.

    Args:
        rounds: For each run its events: "op" or "kernel", name, microseconds.

    Example:
        >>> runs = [[("kernel", "GEMM", 3.0), ("op", "SOFTMAX", 1.0)]] * 2
        >>> [(step.name, step.delegated, step.median_us) for step in steps_of(runs)]
        [('GEMM', True, 3.0), ('SOFTMAX', False, 1.0)]
    """
    kept = [
        [event for event in events if event[0] == "kernel" or "Delegate" not in event[1]]
        for events in rounds
    ]
    steps = []
    for events in zip(*kept, strict=True):
        kind, name, _ = events[0]
        times = [time_us for _, _, time_us in events]
        steps.append(KernelTime(name, kind == "kernel", float(np.median(times))))
    return tuple(steps)
