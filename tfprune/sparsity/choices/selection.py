"""Selecting exactly k of n in linear time, with ties to the lower index."""

import numpy as np
from numpy.typing import NDArray

_PART = 2**16


def keep_count(size: int, sparsity: float) -> int:
    """Return how many of `size` to keep: `max(round((1 - sparsity) * size), 1)`, half to even.

    Up to 2**20 elements the arithmetic is float32, as in tensorflow-model-optimization, with the
    same counts; above, where float32 would miscount, it is float64.

    Example:
        >>> keep_count(10, 0.8), keep_count(5, 0.5), keep_count(7, 0.5), keep_count(3, 0.99)
        (2, 2, 4, 1)
    """
    real = np.float32 if size <= 2**20 else np.float64
    return max(int(np.rint(real(size) * (real(1) - real(sparsity)))), min(size, 1))


def keep_largest(scores: NDArray, count: int) -> NDArray[np.bool_]:
    """Mark the `count` largest of `scores`; of equals, the lower (flat) index is kept.

    Zero is by far the most frequent score of masked weights, and selection is slow among many
    equals, so zeros are handled first.

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
    threshold = _threshold(flat, count)
    mask = flat >= threshold
    surplus = int(np.count_nonzero(mask)) - count
    if surplus:
        equal = flat == threshold
        cut = _position_of(equal, int(np.count_nonzero(equal)) - surplus)
        mask[cut:] &= ~equal[cut:]
    return mask.reshape(scores.shape)


def _position_of(marks: NDArray[np.bool_], number: int) -> int:
    """Return the index of the mark that has `number` marks before it."""
    before = np.cumsum([0, *(np.count_nonzero(part) for part in _parts(marks))])
    chunk = int(np.searchsorted(before, number, side="right")) - 1
    within = np.flatnonzero(marks[chunk * _PART : (chunk + 1) * _PART])
    return chunk * _PART + int(within[number - before[chunk]])


def _threshold(flat: NDArray, count: int) -> NDArray:
    """Return the largest threshold that at least `count` values reach.

    Floyd and Rivest, 1975: bracket the answer by a sample, then select inside the bracket.
    The sample only saves time; if it misleads, all candidates are partitioned.
    """
    if flat.size <= 2**15:
        return _partitioned(flat, count)
    sample = np.sort(flat[:: flat.size >> 14])
    center = (1 - count / flat.size) * sample.size
    margin = 2 * np.sqrt(sample.size)
    low = sample[max(int(center - margin), 0)]
    high = sample[min(int(center + margin), sample.size - 1)]
    positives_only = False
    if low <= 0 <= high or low == high:
        positives = _total(flat, np.greater, 0)
        if positives < count <= positives + _total(flat, np.equal, 0):
            return flat.dtype.type(0)
        if positives == count:  # already pruned to this sparsity: keep all that is not zero
            return np.nextafter(flat.dtype.type(0), flat.dtype.type(1))
        positives_only = positives >= count
        if positives_only and low <= 0:
            low = np.nextafter(flat.dtype.type(0), flat.dtype.type(1))
    rank = count - _total(flat, np.greater, high)
    inside = np.concatenate([part[(part >= low) & (part <= high)] for part in _parts(flat)])
    if 1 <= rank <= inside.size:
        return high if low == high else _partitioned(inside, rank)
    return _partitioned(flat[flat > 0] if positives_only else flat, count)


def _partitioned(flat: NDArray, rank: int) -> NDArray:
    place = flat.size - rank
    return np.partition(flat, place)[place]


def _total(flat: NDArray, compare: np.ufunc, value: NDArray | float) -> int:
    return sum(int(np.count_nonzero(compare(part, value))) for part in _parts(flat))


def _parts(flat: NDArray) -> list[NDArray]:
    """Return views of an array that are small enough for the cache."""
    return [flat[at : at + _PART] for at in range(0, flat.size, _PART)]
