"""The shared values of a kernel, its centroids: where they begin.

Kernels come as rows: one row for the whole kernel, or one for each channel, that shares values.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tfprune.utils.centroids import distinct, settled
from tfprune.utils.registry import Registry

Init = Callable[[NDArray, int, np.random.Generator], NDArray]
"""`(values, count, rng) -> centroids`, the values flat, not empty and sorted."""

INITS: Registry[Init] = Registry("centroid init")

_SAMPLE = 100_000


@INITS.register("linear")
def linear(values: NDArray, count: int, rng: np.random.Generator) -> NDArray:
    """Space centroids evenly from the smallest to the largest value."""
    return np.linspace(values[0], values[-1], count)


@INITS.register("random")
def uniform(values: NDArray, count: int, rng: np.random.Generator) -> NDArray:
    """Draw centroids between the smallest and the largest value."""
    return rng.uniform(values[0], values[-1], count)


@INITS.register("density")
def density(values: NDArray, count: int, rng: np.random.Generator) -> NDArray:
    """Space centroids evenly in rank: as many weights between each two."""
    return np.quantile(values, np.linspace(0.01, 1, count))


@INITS.register("kmeans++")
def kmeans(values: NDArray, count: int, rng: np.random.Generator) -> NDArray:
    """Draw each centroid far from those before it, then move all to the means of their weights."""
    some = values if values.size <= _SAMPLE else rng.choice(values, _SAMPLE, replace=False)
    chosen = [some[rng.integers(some.size)]]
    distance = (some - chosen[0]) ** 2
    while len(chosen) < count and (total := distance.sum()) > 0:
        # The last value may be passed by rounding of the sum.
        drawn = np.searchsorted(np.cumsum(distance), rng.uniform(0, total), side="right")
        chosen.append(some[min(int(drawn), some.size - 1)])
        distance = np.minimum(distance, (some - chosen[-1]) ** 2)
    chosen += [chosen[-1]] * (count - len(chosen))
    return settled(values, np.sort(np.array(chosen)))


def first_centroids(
    rows: NDArray, count: int, init: Init, *, keep_zeros: bool, seed: int = 0
) -> NDArray:
    """Return sorted centroids for each row, as (rows, count).

    A row with no more values than centroids has these values as centroids, so that weights which
    share values already, as in a model that was saved while it was clustered, do not change.

    Args:
        rows: The weights.
        count: Number of centroids.
        init: Where they begin.
        keep_zeros: Whether 0 is a centroid of rows with zeros. The others are shared out among
            negative and positive weights by their number.
        seed: Seed of random ones.

    Example:
        >>> first_centroids(np.array([[-1.0, 0.0, 0.0, 2.0, 4.0]]), 3, linear, keep_zeros=True)
        array([[-1.,  0.,  2.]])
    """
    rng = np.random.default_rng(seed)
    return np.stack([_first(np.sort(row), count, init, keep_zeros, rng) for row in rows])


def _first(
    values: NDArray, count: int, init: Init, keep_zeros: bool, rng: np.random.Generator
) -> NDArray:
    unique = distinct(values)
    if unique.size <= count:
        return np.concatenate([unique, np.full(count - unique.size, unique[-1])])
    zeros = keep_zeros and bool((values == 0).any())
    if not zeros:
        return np.sort(init(values, count, rng))
    negative, positive = values[values < 0], values[values > 0]
    below = round((count - 1) * negative.size / (negative.size + positive.size))
    parts = [(negative, below), (positive, count - 1 - below)]
    sides = [init(part, number, rng) for part, number in parts if number]
    return np.sort(np.concatenate([[0.0], *sides]))
