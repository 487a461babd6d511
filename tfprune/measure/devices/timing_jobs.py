"""What a child process does to time files and to weigh them in memory, here or behind ssh.

Each job answers many times: first which file it is loading or running, so that a crash is told of
the right one. They import the runtime and numpy, no TensorFlow.
"""

import gc
import importlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.measure.devices.litert_profile import ProfiledModel
from tfprune.runtime.registry import Loaded, check_inputs, noise, of_ending, shape_of

MIN_SAMPLE_MS = 5.0
WARM_UP_MS = 20.0
MAX_CALLS = 1000
PLACES = 10
"""How often files are loaded for a measurement, at most."""


def load_for_timing(path: str, threads: int, shapes: Mapping[str, Sequence[int]]) -> Loaded:
    """Return a loaded file with its inputs filled with noise.

    Raises:
        OptionError: The file leaves more than the batch free, and no shape was given.
    """
    runner = of_ending(Path(path)).open(Path(path).read_bytes(), threads)
    random = np.random.default_rng(0)
    samples = {}
    for spec in runner.inputs:
        shape = shape_of(spec, shapes)
        samples[spec.name] = noise(spec, shape, random)
    runner.prepare(samples)
    return runner


def sample_ms(invoke: Callable[[], None], calls: int, clock: Callable[[], int]) -> float:
    """Return the mean milliseconds of `calls` calls, after as many that warm the caches."""
    for _ in range(calls):
        invoke()
    start = clock()
    for _ in range(calls):
        invoke()
    return (clock() - start) / calls / 1e6


def calls_per_sample(invoke: Callable[[], None], clock: Callable[[], int]) -> int:
    """Warm a model up and return how many calls make a sample long enough for the clock."""
    spent, calls = 0.0, 0
    while (spent < WARM_UP_MS and calls < MAX_CALLS) or calls < 3:
        spent += sample_ms(invoke, 1, clock)
        calls += 1
    wanted = math.ceil(MIN_SAMPLE_MS * calls / max(spent, 1e-6) - 1e-6)
    return min(max(wanted, 1), MAX_CALLS)


def time_files(
    files: Sequence[str], threads: int, shapes: Mapping[str, Sequence[int]], schedule: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Load every file, then take one sample for each entry of the schedule, in its order.

    Where in memory a file comes to lie makes it up to a tenth faster or slower. So all are loaded
    anew several times on the way, each time in the other order.
    """
    clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    loaded: dict[int, Loaded] = {}
    calls = dict.fromkeys(range(len(files)), 0)

    def load_all(order: Iterable[int]) -> Iterator[dict[str, Any]]:
        loaded.clear()
        for index in order:
            yield {"stage": "loading", "file": index}
            loaded[index] = load_for_timing(files[index], threads, shapes)
            yield {"stage": "running", "file": index}
            calls[index] = calls[index] or calls_per_sample(loaded[index].invoke, clock)

    yield from load_all(calls)
    check_inputs(shapes, [spec for runner in loaded.values() for spec in runner.inputs])
    gc.disable()
    length = 2 * (len(files) - 1) or 1
    for number, part in enumerate(parts(schedule, length)):
        if number:
            yield from load_all(sorted(calls, reverse=bool(number % 2)))
        # What has just been loaded is slower for a while, not for one call.
        for index in calls:
            sample_ms(loaded[index].invoke, calls[index], clock)
        for index in part:
            taken_ms = sample_ms(loaded[index].invoke, calls[index], clock)
            yield {"file": index, "sample": taken_ms, "calls": calls[index]}


def parts(schedule: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    """Cut a schedule into at most PLACES parts of whole rounds.

    Example:
        >>> [len(part) for part in parts(range(60), 4)]
        [8, 8, 8, 8, 8, 8, 8, 4]
    """
    rounds = math.ceil(len(schedule) / length)
    size = length * max(math.ceil(rounds / PLACES), 1)
    for start in range(0, len(schedule), size):
        yield schedule[start : start + size]


def weigh_file(
    files: Sequence[str], threads: int, shapes: Mapping[str, Sequence[int]]
) -> Iterator[dict[str, Any]]:
    """Say how much memory loading one file and running it once adds to this process at its peak."""
    # The weight of the runtime itself is not the file's.
    importlib.import_module(of_ending(Path(files[0])).module)
    yield {"stage": "loading", "file": 0}
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak counts from here on
    except OSError:
        pass  # not allowed in some containers; the peak so far is the weight of the imports
    before = _status_bytes("VmRSS")
    runner = load_for_timing(files[0], threads, shapes)
    yield {"stage": "running", "file": 0}
    runner.invoke()
    yield {"peak_bytes": max(_status_bytes("VmHWM") - before, 0)}


def profile_file(
    files: Sequence[str], threads: int, shapes: Mapping[str, Sequence[int]], runs: int
) -> Iterator[dict[str, Any]]:
    """Run one file several times and say which kernels ran each time, and how long."""
    yield {"stage": "loading", "file": 0}
    model = ProfiledModel(files[0], threads, shapes)
    yield {"stage": "running", "file": 0}
    for events in model.run(runs):
        yield {"events": events}


def _status_bytes(key: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {key}")
