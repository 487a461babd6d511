"""What both sides of structure_accuracy.py do alike, whatever trains: budget, data, rate, batches.

It needs numpy alone, so that the peer's process can import it in an environment of its own.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Budget = dict[str, Any]

TRAINING = {"batch": 128, "dense_rate": 3e-3, "tune_rate": 1e-3, "epsilon": 1e-7}
GATES = {"gate_penalty": 0.1}
"""For all networks: Adam, its rate falling from here to 0 along a cosine."""

TAYLOR = 1024
REPAIR = 1024
RECALIBRATE = 2048
"""How many of the training images each of these reads."""

TEST = 5_000
"""Every accuracy is of the first so many images of the test set."""


def cached(work: Path, data: str) -> Path:
    """The file in which the images of a data set are handed to all workers."""
    return work / f"{data}.npz"


def load(path: Path, images: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return x, y for training (the first so many images) and for the test, x as uint8 NHWC."""
    with np.load(path) as file:
        x, y = file["x_train"][:images], file["y_train"][:images]
        return x, y, file["x_test"][:TEST], file["y_test"][:TEST]


def scaled(images: NDArray) -> NDArray:
    """Images as a network takes them, from -1 to 1."""
    return np.float32(images) / np.float32(127.5) - np.float32(1)


def steps_of(images: int, epochs: int) -> int:
    """How many steps there are in so many epochs; what fills no batch is left out."""
    return images // int(TRAINING["batch"]) * epochs


def batches(
    x: NDArray, y: NDArray, epochs: int, seed: int, *, flip: bool
) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield the same batches in the same order whoever asks; half of the images flipped."""
    rng = np.random.default_rng(seed)
    size = int(TRAINING["batch"])
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):
            index = order[start : start + size]
            images = x[index]
            if flip:
                turned = rng.random(size) < 0.5
                images[turned] = images[turned, :, ::-1]
            yield scaled(images), y[index]


def rate_at(step: int, steps: int, start: float) -> float:
    """The learning rate of a step: half a cosine down to 0."""
    return start * 0.5 * (1 + math.cos(math.pi * step / steps))


def in_batches(x: NDArray, y: NDArray, count: int) -> list[tuple[NDArray, NDArray]]:
    """The first so many images in order, unflipped, as batches."""
    size = int(TRAINING["batch"])
    return [(scaled(x[i : i + size]), y[i : i + size]) for i in range(0, min(count, len(x)), size)]
