"""Latency of files, measured in interleaved pairs.

Two files are compared in adjacent pairs: one runs, then the other, and their ratio is taken, so
that slow changes of the machine cancel. The result is the median over the pairs. The same ratio of
a file and its own copy (A/A) shows the noise floor.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfprune.errors import OptionError
from tfprune.measure.devices.device import Device, Sample
from tfprune.measure.devices.registry import device_of
from tfprune.measure.sources import Source, name_of, staged
from tfprune.report.data import Conditions, Ratio
from tfprune.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class Latency:
    """The latency of one file, with the conditions of the measurement.

    Attributes:
        name: The file.
        median_ms: The median of the samples.
        p90_ms: The 90th percentile of the samples.
        q1_ms: Their lower quartile.
        q3_ms: Their upper quartile.
        min_ms: The fastest sample.
        samples: Number of samples.
        calls: Number of calls in each sample, which is their mean: more than one for files that are
            fast compared with the resolution of the clock.
        conditions: The device, the runtime, the threads, the clock, and the noise.
    """

    name: str
    median_ms: float
    p90_ms: float
    q1_ms: float
    q3_ms: float
    min_ms: float
    samples: int
    calls: int
    conditions: Conditions

    def __str__(self) -> str:
        seen = self.conditions
        if seen.fake:
            return f"{self.name}: not measured: {seen.device} is a fake device"
        return (
            f"{self.name}: median {self.median_ms:.4g} ms, p90 {self.p90_ms:.4g} ms, "
            f"quartiles {self.q1_ms:.4g}-{self.q3_ms:.4g} ms, min {self.min_ms:.4g} ms\n"
            f"  {self.samples} samples of {self.calls} call(s), {seen.threads} thread(s), "
            f"{seen.clock}, A/A noise {seen.noise.median:.3f} "
            f"[{seen.noise.q1:.3f}, {seen.noise.q3:.3f}]\n"
            f"  {seen.device}: {seen.machine}, {seen.system}, {seen.runtime}"
        )


@dataclass(frozen=True)
class Interleaved:
    """Files timed interleaved; the first is the baseline of the ratios.

    Attributes:
        latencies: One for each file, in their order.
        ratios: The time of each file but the first, relative to the first.
        conditions: Where and how it was measured.
    """

    latencies: tuple[Latency, ...]
    ratios: tuple[Ratio, ...]
    conditions: Conditions

    def __str__(self) -> str:
        lines = [str(self.latencies[0])]
        for found, beside in zip(self.latencies[1:], self.ratios, strict=True):
            lines.append(str(found))
            if not found.conditions.fake:
                lines.append(
                    f"  {beside.median:.3f}x [{beside.q1:.3f}, {beside.q3:.3f}] the time of "
                    f"{self.latencies[0].name}, {beside.pairs} pairs"
                )
        return "\n".join(lines)


def benchmark(
    source: Source,
    *,
    device: str = "host",
    threads: int = 1,
    runs: int = 50,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = SILENT,
) -> Latency:
    """Measure the latency of a file on a device.

    It runs in a child process, interleaved with a copy of itself that shows the noise floor.

    Args:
        source: An artifact, or the path or the bytes of a `.tflite` file. An `.onnx` file runs in
            ONNX Runtime, on the host.
        device: `host`, or another name in the registry of devices.
        threads: Threads of the runtime.
        runs: Number of samples.
        input_shapes: Shapes by input name, for files with open sizes other than the batch.
        progress: Receives progress reports.

    Raises:
        OptionError: An unknown device, or less than one thread or run.
        ArtifactError: The file is missing, no `.tflite`, or the runtime cannot run it.

    Example:
        print(benchmark("model.tflite"))        # model.tflite: median 0.0412 ms, p90 0.0419 ms, …
    """
    measured = interleaved(
        [source],
        device=device,
        threads=threads,
        runs=runs,
        input_shapes=input_shapes,
        progress=progress,
    )
    return measured.latencies[0]


def interleaved(
    sources: Sequence[Source],
    *,
    names: Sequence[str] | None = None,
    device: str = "host",
    threads: int = 1,
    runs: int = 50,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = SILENT,
) -> Interleaved:
    """Measure the latency of files, interleaved with the first of them.

    Args:
        sources: Artifacts, paths or bytes; the first is the baseline. Each runs in its own runtime,
            so that a `.tflite` can be compared with an `.onnx`.
        names: Their names in messages; by default their file names.
        device: `host`, or another name in the registry of devices.
        threads: Threads of the runtime.
        runs: Number of pairs of each file and the baseline.
        input_shapes: Shapes by input name, for files with open sizes other than the batch.
        progress: Receives progress reports.

    Raises:
        OptionError: An unknown device, or less than one thread or run.
        ArtifactError: A file is missing, no `.tflite`, or the runtime cannot run it.
    """
    check_counts(threads=threads, runs=runs)
    check_shapes(input_shapes)
    machine = device_of(device)
    labels = list(names or map(name_of, sources))
    rounds = machine.rounds(runs)
    schedule = pair_schedule(len(sources), rounds)
    with staged(sources) as files, progress.task("latency", len(schedule)) as task:
        _check_runs(machine, device, files, labels)
        samples = []
        for sample in machine.run(
            [*files, files[0]],
            schedule,
            names=[*labels, labels[0]],
            threads=threads,
            runs=runs,
            shapes=input_shapes or {},
        ):
            samples.append(sample)
            task.advance()
    info = machine.info()
    ratios = pair_ratios(samples, len(sources))
    engines = [info.others.get(file.suffix, info.runtime) for file in files]
    conditions = Conditions(
        device=device,
        machine=info.machine,
        system=info.system,
        runtime=", ".join(dict.fromkeys(engines)),
        threads=threads,
        runs=runs,
        clock=machine.clock(threads),
        noise=ratios[-1],
        fake=info.fake,
    )
    return Interleaved(
        latencies=tuple(
            _latency(
                label,
                [sample for sample in samples if sample.file == index],
                dataclasses.replace(conditions, runtime=engine),
            )
            for index, (label, engine) in enumerate(zip(labels, engines, strict=True))
        ),
        ratios=ratios[:-1],
        conditions=conditions,
    )


def _check_runs(machine: Device, device: str, files: Sequence[Path], labels: Sequence[str]) -> None:
    """Raise if a device has no runtime for a file."""
    foreign = [
        (file.suffix, label)
        for file, label in zip(files, labels, strict=True)
        if file.suffix != ".tflite"
    ]
    for ending, label in foreign:
        if ending not in machine.info().others:
            raise OptionError(
                f"{label}: device {device!r} runs .tflite files only; measure {ending} with "
                "device='host'"
            )


def check_counts(**options: int) -> None:
    """Raise unless options are whole numbers of at least one.

    Raises:
        OptionError: One has another value.
    """
    for option, value in options.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < 1:
            raise OptionError(f"{option}: expected a whole number >= 1. Received {value!r}")


def check_shapes(shapes: Mapping[str, Sequence[int]] | None) -> None:
    """Raise for invalid shapes. Whether files have such inputs is checked when they are loaded.

    Raises:
        OptionError: It is not a dict from names to sizes of at least one.
    """
    if shapes is None:
        return
    named = shapes.items() if isinstance(shapes, Mapping) else [(None, None)]
    for name, shape in named:
        sizes = list(shape) if isinstance(shape, list | tuple) else [None]
        whole = all(isinstance(size, int | np.integer) and size > 0 for size in sizes)
        if not isinstance(name, str) or not whole:
            raise OptionError(
                "input_shapes: expected shapes by input name, such as {'tokens': (1, 128)}. "
                f"Received {shapes!r}"
            )


def pair_schedule(files: int, rounds: int) -> list[int]:
    """Return the order in which files run: pairs with file 0, reversed in every other round.

    Index `files` stands for a second copy of file 0, for the noise.

    Example:
        >>> pair_schedule(2, 2)
        [0, 1, 0, 2, 1, 0, 2, 0]
    """
    schedule = []
    for turn in range(rounds):
        for other in range(1, files + 1):
            schedule += [other, 0] if turn % 2 else [0, other]
    return schedule


def pair_ratios(samples: Sequence[Sample], files: int) -> tuple[Ratio, ...]:
    """Return the ratio over the pairs for each file but the first, and for its copy."""
    found: dict[int, list[float]] = {other: [] for other in range(1, files + 1)}
    for one, two in zip(samples[::2], samples[1::2], strict=True):
        base, other = (one, two) if one.file == 0 else (two, one)
        found[other.file].append(other.ms / base.ms)
    return tuple(ratio_of(values) for values in found.values())


def ratio_of(values: Sequence[float]) -> Ratio:
    """Return the median and quartiles of ratios.

    Example:
        >>> ratio_of([0.5, 0.4, 0.6])
        Ratio(median=0.5, q1=0.45, q3=0.55, pairs=3)
    """
    q1, median, q3 = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Ratio(median=median, q1=q1, q3=q3, pairs=len(values))


def _latency(name: str, samples: Sequence[Sample], conditions: Conditions) -> Latency:
    times = [sample.ms for sample in samples]
    q1, median, q3, p90 = (float(value) for value in np.percentile(times, (25, 50, 75, 90)))
    return Latency(
        name=name,
        median_ms=median,
        p90_ms=p90,
        q1_ms=q1,
        q3_ms=q3,
        min_ms=min(times),
        samples=len(times),
        calls=samples[0].calls,
        conditions=conditions,
    )
