"""How much a latency figure can be trusted: the same file twice, idle and beside busy processes.

    python benchmarks/timing_noise.py [--times 20] [--runs 10]

Each measurement is what a user gets: a fresh process, interleaved pairs of two files, and the first
file beside a copy of itself (A/A). It is repeated; the conditions take turns, so that a slow minute
falls on all of them.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from harness import publish
from latency import attention, convnet

from tfprune.deploy.tflite import to_tflite
from tfprune.measure.latency import interleaved, ratio_of
from tfprune.report.figures import percent, ratio

SEED = 0
NOISE, SHIFT = 0.03, 0.05
"""What A/A may be off by on an idle machine, and a ratio by on a busy one."""
CONDITIONS = {"idle": 0, "one busy process": 1, "two busy processes": 2}


def mobile_net() -> keras.Model:
    """Return MobileNetV2, a third as wide, for images of 96x96."""
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Let so many processes compute beside."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in loops:
            process.kill()
            process.wait()


def measure(build: Any, times: int, runs: int) -> dict[str, dict[str, list[float]]]:
    """Return the A/A ratios and the ratios of int8 to float32, for each condition."""
    keras.utils.set_random_seed(SEED)
    model = build()
    shape = model.inputs[0].shape[1:]
    samples = np.random.default_rng(SEED).normal(size=(32, *shape)).astype("float32")
    # Random weights make no sharp answers: how well int8 agrees is not the question.
    files = [
        to_tflite(model),
        to_tflite(model, scheme="int8", calibration=samples, bound=10.0),
    ]
    found: dict[str, dict[str, list[float]]] = {
        name: {"aa": [], "ratio": []} for name in CONDITIONS
    }
    for _ in range(times):
        for name, count in CONDITIONS.items():
            with busy(count):
                timed = interleaved(files, names=["float32", "int8"], runs=runs)
            found[name]["aa"].append(timed.conditions.noise.median)
            found[name]["ratio"].append(timed.ratios[0].median)
    return found


def row(network: str, name: str, found: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return a condition as words."""
    off = np.abs(np.array(found[name]["aa"]) - 1)
    middle = ratio_of(found[name]["ratio"])
    shift = middle.median / ratio_of(found["idle"]["ratio"]).median - 1
    return [
        network,
        name,
        f"{100 * np.median(off):.1f} %",
        f"{100 * off.max():.1f} %",
        str(percent(float(np.mean(off <= NOISE)))),
        str(ratio(middle)),
        "" if name == "idle" else f"{100 * shift:+.1f} %",
    ]


def main() -> None:
    """Measure three networks and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    rows, numbers = [], {}
    for build in (convnet, attention, mobile_net):
        network = build.__name__
        found = numbers[network] = measure(build, options.times, options.runs)
        for name in CONDITIONS:
            rows.append(row(network, name, found))
            print(*rows[-1], sep=" | ", flush=True)
    publish(
        "timing_noise",
        title="How much a latency figure can be trusted",
        columns=(
            "network", "machine", "A/A off by, median", "worst", f"within {NOISE:.0%}",
            "int8 / float32", "moved from idle",
        ),
        rows=rows,
        numbers=numbers,
        seeds=[SEED],
        remarks=[
            f"Batch 1, one thread, thread CPU time, {options.runs} interleaved pairs a "
            f"measurement, {options.times} measurements of each kind in turns. A/A is the "
            "float32 file beside a copy of itself: 0 is right. The ratio is the median "
            "[quartiles] of the measurements' medians; a busy machine should not move it by "
            f"{SHIFT:.0%}. The busy processes take both caches and cores: "
            f"this machine has {os.cpu_count()} cores.",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
