"""Numbers that share values, their centroids: which number takes which, and k-means."""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 50


def settled(values: NDArray, centroids: NDArray) -> NDArray:
    """Return centroids moved to the means of their weights until that changes nothing.

    Args:
        values: Sorted values.
        centroids: Sorted centroids.
    """
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    for _ in range(_ROUNDS):
        ends = np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2, side="right")
        ends = np.concatenate([[0], ends, [values.size]])
        counts = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(counts, 1)
        moved = np.sort(np.where(counts > 0, means, centroids))
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def distinct(sorted_values: NDArray) -> NDArray:
    """Return the different values among sorted ones; -0 and 0 are one."""
    changes = np.flatnonzero(sorted_values[1:] != sorted_values[:-1]) + 1
    return sorted_values[np.concatenate([[0], changes])] + 0.0


def nearest(rows: NDArray, centroids: NDArray) -> NDArray[np.intp]:
    """Return the number of the centroid that each weight is nearest to, the lower of two.

    Example:
        >>> nearest(np.array([[0.1, 0.5, 0.9, 7.0]]), np.array([[0.0, 1.0, 2.0]]))
        array([[0, 0, 1, 2]])
    """
    middles = (centroids[:, 1:] + centroids[:, :-1]) / 2
    return np.stack([np.searchsorted(m, row) for m, row in zip(middles, rows, strict=True)])
