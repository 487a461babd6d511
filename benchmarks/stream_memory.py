"""The memory of a run whose data are made while they are read: 20 GB, and a hundredth of it.

    python benchmarks/stream_memory.py [--gigabytes 20] [--rounds 2] [--work DIR]

`tfprune run` trains, shrinks, prunes, calibrates, converts and scores, and `tfprune check` scores
again, each as a process of its own. A size takes turns with the other. The peak is the most
resident memory of the largest process, as the system counts it.
"""

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0
SIZE, SHAPE = 64, (128, 128, 3)
BATCH_BYTES = SIZE * int(np.prod(SHAPE)) * 4
POOL = 4 * SIZE
FORMS = ("tf.data", "PyDataset", "function")
PARTS = {"train": 1.0, "validation": 0.05, "test": 0.2}
"""The number of batches of each set, relative to the training set."""

RECIPE = """
[model]
source = "stream_memory:small_model"

[data]
source = "stream_memory:data"

[train]
epochs = 1
learning_rate = 0.01
early_stopping = 1

[shrink]
target = { params = 0.8 }
importance = "taylor"
round_to = 1
epochs = 0

[prune]
sparsity = 0.5
epochs = 1

[quantize]
scheme = "int8"

[measure]
runs = 5

[gate]
max_accuracy_drop = 0.5
"""


class Made:
    """Batches whose brightness is the class, cut from a pool of noise and scaled at random."""

    def __init__(self, batches: int, seed: int) -> None:
        self.batches, self.seed = batches, seed
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 2, POOL)
        self.images = random.random((POOL, *SHAPE), np.float32)
        self.images += 0.2 * self.labels[:, None, None, None].astype(np.float32)

    def batch(self, number: int) -> tuple[Any, Any]:
        """Return a batch, the same each time."""
        random = np.random.default_rng([self.seed, number])
        start = int(random.integers(0, POOL - SIZE))
        rows = slice(start, start + SIZE)
        return self.images[rows] * np.float32(random.uniform(0.9, 1.1)), self.labels[rows]


def function(made: Made) -> Any:
    """Return a function that returns a generator."""

    def read() -> Iterator[Any]:
        yield from map(made.batch, range(made.batches))

    return read


def py_dataset(made: Made) -> Any:
    """Return a `keras.utils.PyDataset`."""
    import keras

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return made.batches

        def __getitem__(self, index: int) -> Any:
            return made.batch(index)

    return Batches()


def tf_data(made: Made) -> Any:
    """Return a `tf.data.Dataset`, which TensorFlow computes."""
    import tensorflow as tf

    images, labels = tf.constant(made.images), tf.constant(made.labels)

    def batch(number: Any) -> Any:
        seed = tf.stack([tf.cast(made.seed, tf.int64), number])
        start = tf.random.stateless_uniform([], seed, maxval=POOL - SIZE, dtype=tf.int32)
        gain = tf.random.stateless_uniform([], seed, 0.9, 1.1)
        return images[start : start + SIZE] * gain, labels[start : start + SIZE]

    return tf.data.Dataset.range(made.batches).map(batch)


def data() -> Any:
    """Return the sets of the run, in the form and the number of batches of the environment."""
    form: Callable[[Made], Any] = {
        "function": function,
        "PyDataset": py_dataset,
        "tf.data": tf_data,
    }[os.environ["STREAM_FORM"]]
    batches = int(os.environ["STREAM_BATCHES"])
    sizes = [max(round(share * batches), 2) for share in PARTS.values()]
    return tuple(form(Made(size, seed)) for seed, size in enumerate(sizes))


def small_model() -> Any:
    """Return a network that computes little, so that reading takes most of the time."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 8, strides=8, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="head"),
        ]
    )


def measured(form: str, batches: int, work: Path) -> dict[str, Any]:
    """Run and check, and return the peaks, in MB, and the time."""
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    (work / "recipe.toml").write_text(RECIPE)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        ),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "STREAM_FORM": form,
        "STREAM_BATCHES": str(batches),
    }
    start, found = time.perf_counter(), {}
    for verb, arguments in (
        ("run", [str(work / "recipe.toml"), "--out", str(folder)]),
        ("check", [str(folder)]),
    ):
        with open(work / f"{verb}.txt", "w") as log:
            command = [sys.executable, "-m", "tfprune.cli", verb, *arguments]
            outputs = [(os.POSIX_SPAWN_DUP2, log.fileno(), number) for number in (1, 2)]
            child = os.posix_spawn(command[0], command, environment, file_actions=outputs)
            stages: dict[str, float] = {}
            watch = threading.Thread(target=follow, args=(child, folder, stages), daemon=True)
            watch.start()
            _, status, usage = os.wait4(child, 0)
            watch.join()
        if status:
            sys.exit((work / f"{verb}.txt").read_text())
        found[verb] = usage.ru_maxrss / 1024  # of the largest process that it had begun
        if verb == "run":
            found["stages"] = stages
    return {**found, "seconds": time.perf_counter() - start}


def follow(process: int, folder: Path, stages: dict[str, float]) -> None:
    """Note the most resident memory of a process in each stage of its run, until it ends."""
    state = folder / "state.json"
    while True:
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        if "VmRSS:" not in status:  # it has ended
            return
        resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        running = json.loads(state.read_text())["running"] if state.exists() else None
        stage = running or "between"
        stages[stage] = max(stages.get(stage, 0.0), resident)
        time.sleep(0.05)


def main() -> None:
    """Run both sizes in turns, for each form, and publish the peaks."""
    from harness import publish  # not in the processes that are measured

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    large = round(options.gigabytes * 1e9 / BATCH_BYTES)
    sizes = (max(large // 100, 2), large)
    rows, numbers = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(exist_ok=True)
        for form in options.forms:
            found: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
            for _, size in itertools.product(range(options.rounds), sizes):
                found[size].append(measured(form, size, work))
                print(form, size, found[size][-1], flush=True)
            numbers[form] = found
            rows += list(table_rows(form, found))
            publish(
                "stream_memory",
                title="Peak memory of a run, and how much data it reads",
                columns=("data", "training set", "run", "check", "to the small set", "time"),
                rows=rows,
                numbers=numbers,
                seeds=[SEED],
                remarks=[
                    f"Images of {'x'.join(map(str, SHAPE))} float32, made while they are read, in "
                    f"batches of {SIZE}; the test set has a fifth of the training set. `tfprune "
                    "run` trains, shrinks, prunes, calibrates, converts to int8 and scores; "
                    "`tfprune check` scores again, without TensorFlow where the data are without. "
                    f"The largest of {options.rounds} run{'s' * (options.rounds > 1)} of each "
                    "size, in turns."
                ],
            )


def table_rows(form: str, found: dict[int, list[dict[str, Any]]]) -> Iterator[list[str]]:
    """Yield a row for each size."""
    peaks = {
        size: {verb: max(run[verb] for run in runs) for verb in ("run", "check")}
        for size, runs in found.items()
    }
    base = peaks[min(peaks)]
    for size, peak in peaks.items():
        ratios = [peak[verb] / base[verb] for verb in ("run", "check")]
        yield [
            form,
            f"{size * BATCH_BYTES / 1e9:.1f} GB",
            f"{peak['run']:.0f} MB",
            f"{peak['check']:.0f} MB",
            ", ".join(f"{ratio:.2f}" for ratio in ratios),
            f"{min(run['seconds'] for run in found[size]):.0f} s",
        ]


if __name__ == "__main__":
    main()
