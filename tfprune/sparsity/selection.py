"""Exactly k of n, in linear time, ties to the lower index."""

import numpy as np
from numpy.typing import NDArray


def keep_count(size: int, sparsity: float) -> int:
    """Say how many of `size` stay: `max(round((1 - sparsity) * size), 1)`, half to even.

    The arithmetic is float32 up to 2**20 elements, which is tensorflow-model-optimization's and
    gives its counts to the digit; above, where float32 would miscount, it is float64.

    Example:
        >>> keep_count(10, 0.8), keep_count(5, 0.5), keep_count(7, 0.5), keep_count(3, 0.99)
        (2, 2, 4, 1)
    """
    real = np.float32 if size <= 2**20 else np.float64
    return max(int(np.rint(real(size) * (real(1) - real(sparsity)))), min(size, 1))


def keep_largest(scores: NDArray, count: int) -> NDArray[np.bool_]:
    """Mark the `count` largest of `scores`; among equals the lower (flat) index stays.

    A held zero is the commonest score by far, and selection is slow among many equals, so zeros
    are set aside first.

    Args:
        scores: Any shape. NaN is not allowed.
        count: How many to mark, from 0 to the size.

    Returns:
        A boolean array of the shape of `scores` with exactly `count` true.

    Example:
        >>> keep_largest(np.array([1.0, 3.0, 3.0, 0.0, 3.0]), 2)
        array([False,  True,  True, False, False])
    """
    flat = np.ascontiguousarray(scores).reshape(-1)
    if not 0 <= count <= flat.size:
        raise ValueError(f"count: expected 0 to {flat.size}. Received {count}.")
    if count in (0, flat.size):
        return np.full(scores.shape, count > 0)
    threshold = _kth_largest(flat, count)
    mask = flat >= threshold
    surplus = int(np.count_nonzero(mask)) - count
    if surplus:
        equal = flat == threshold
        cut = _position_of(equal, int(np.count_nonzero(equal)) - surplus)
        mask[cut:] &= ~equal[cut:]
    return mask.reshape(scores.shape)


def _position_of(marks: NDArray[np.bool_], number: int) -> int:
    """Return the index of the mark that has `number` marks before it."""
    step = 2**16
    counts = [int(np.count_nonzero(marks[at : at + step])) for at in range(0, marks.size, step)]
    before = np.cumsum([0, *counts])
    chunk = int(np.searchsorted(before, number, side="right")) - 1
    within = np.flatnonzero(marks[chunk * step : (chunk + 1) * step])
    return chunk * step + int(within[number - before[chunk]])


def _kth_largest(flat: NDArray, count: int) -> NDArray:
    positives = int(np.count_nonzero(flat > 0))
    if positives >= count:
        return _bracketed(flat, count, positives_only=positives < flat.size)
    if positives + int(np.count_nonzero(flat == 0)) >= count:
        return flat.dtype.type(0)
    return _bracketed(flat, count, positives_only=False)


def _bracketed(flat: NDArray, count: int, *, positives_only: bool) -> NDArray:
    """Floyd and Rivest, 1975: bracket the answer by a sample, then select inside the bracket.

    The sample only saves time. Where it misled, the whole array is partitioned.
    """
    size = flat.size
    if size > 2**15:
        sample = np.sort(flat[:: size >> 14])
        centre = (1 - count / size) * sample.size
        margin = 2 * np.sqrt(sample.size)
        low = sample[max(int(centre - margin), 0)]
        if positives_only and low <= 0:
            low = np.nextafter(flat.dtype.type(0), flat.dtype.type(1))
        high = sample[min(int(centre + margin), sample.size - 1)]
        rank = count - int(np.count_nonzero(flat > high))
        inside = (flat >= low) & (flat <= high)
        if 1 <= rank <= int(np.count_nonzero(inside)):
            return high if low == high else _partitioned(flat[inside], rank)
    return _partitioned(flat[flat > 0] if positives_only else flat, count)


def _partitioned(flat: NDArray, rank: int) -> NDArray:
    place = flat.size - rank
    return np.partition(flat, place)[place]
