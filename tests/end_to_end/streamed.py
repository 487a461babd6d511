"""A run on data that is made while it is read: `python streamed.py BATCHES FOLDER`.

It writes the most memory that the process has had, in MB, and how many batches were made.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfprune.pipeline import check, compress
from tfprune.report import Gate

SIZE, SHAPE = 64, (64, 64, 3)
MADE = 0


class Made:
    """Batches of noise, whose brightness is the class."""

    def __init__(self, batches: int, seed: int) -> None:
        self.batches, self.seed = batches, seed

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        global MADE
        for number in range(self.batches):
            MADE += 1
            random = np.random.default_rng([self.seed, number])
            labels = random.integers(0, 2, SIZE)
            images = random.random((SIZE, *SHAPE), np.float32)
            yield images + 0.2 * labels[:, None, None, None].astype(np.float32), labels


def small_model() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 8, strides=8, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="head"),
        ]
    )


RECIPE = {
    "train": {"epochs": 1, "learning_rate": 0.01},
    "shrink": {"target": {"params": 0.8}, "importance": "taylor", "round_to": 1, "epochs": 0},
    "prune": {"sparsity": 0.5, "epochs": 1},
    "quantize": {"scheme": "int8"},
    "measure": {"runs": 3},
}


def main(batches: int, folder: Path) -> None:
    """Run, check, and print the peak."""
    train, test = Made(batches, 0), Made(max(batches // 5, 4), 1)
    compress(small_model(), RECIPE, (train, test), out=folder)
    check(folder, data=test, limits=Gate(max_drop=0.5))
    status = Path("/proc/self/status").read_text()
    sys.stdout.write(f"{int(status.partition('VmHWM:')[2].split()[0]) >> 10} {MADE}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
