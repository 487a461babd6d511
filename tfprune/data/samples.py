"""A set of samples in memory, checked: inputs, labels and weights."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.data.data_forms import is_array
from tfprune.data.model_inputs import leaves, mapped
from tfprune.errors import DataError


@dataclass(frozen=True)
class Split:
    """Examples with their labels and weights: `x[i]` has label `y[i]` and weight `w[i]`.

    `x` is a dict or tuple of arrays for several inputs, `y` a dict for several outputs; `w`
    is None if all weigh the same.
    """

    x: Any
    y: Any
    w: Any = None

    def __len__(self) -> int:
        return len(leaves(self.x)[0])

    @property
    def head(self) -> "Split":
        """Return examples that show what the set is like: all of them."""
        return self

    @property
    def given(self) -> Any:
        """Return the set in a form of `data_forms`."""
        return (self.x, self.y) if self.w is None else (self.x, self.y, self.w)

    def steps(self, size: int) -> int:
        """Return the number of batches of a size."""
        return math.ceil(len(self) / size)

    def batches(self, size: int) -> Iterator["Split"]:
        """Yield batches of a size, in order."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))

    def first(self, count: int | None) -> "Split":
        """Return the first `count` examples; None: all."""
        return self.rows(slice(count))

    def some(self, count: int, seed: int) -> "Split":
        """Return at most `count` examples drawn at random, the same each time."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.rows(np.sort(order[:count]))

    def rows(self, rows: Any) -> "Split":
        """Return some of the examples."""
        return Split(*mapped(lambda array: array if array is None else array[rows], self.three))

    @property
    def three(self) -> tuple[Any, Any, Any]:
        """Return examples, labels, weights."""
        return self.x, self.y, self.w

    def arrays(self) -> list[NDArray]:
        """Return all arrays, without their structure."""
        return [array for array in leaves(self.three) if array is not None]

    def fingerprint(self, digest: "hashlib._Hash", name: str) -> str:
        """Add all samples to a digest, under the name of the set; return ""."""
        for array in self.arrays():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return ""


def checked(split: Split, name: str, scale: float) -> Split:
    """Return samples in the types that models take.

    Args:
        split: Samples as given.
        name: Its name in errors.
        scale: Factor for the examples.

    Raises:
        DataError: One line, if anything is not finite, or as for `as_arrays`.
    """
    split = as_arrays(split, name)
    for what, array in _named(split):
        _check_finite(array, f"{name}: {what}")
    x = mapped(lambda array: _scaled(array, scale), split.x)
    return Split(x, split.y, _weights(split.w, split.y, name))


def as_arrays(split: Split, name: str) -> Split:
    """Return samples as arrays, without reading those that are memory-mapped.

    Raises:
        DataError: One line, if anything is empty, or of a wrong type or length.
    """
    split = Split(*mapped(lambda a: a if a is None else np.asarray(a), _told_apart(split)))
    first = leaves(split.x)[0]
    for what, array in _named(split):
        if array.dtype == object or array.dtype.kind not in "fiub":
            raise DataError(
                f"{name}: {what} of type {array.dtype}; expected numbers, in arrays of one shape."
            )
        if array.ndim == 0 or first.shape[:1] == (0,):
            shapes = " and ".join(str(one.shape) for one in split.arrays())
            raise DataError(f"{name} is empty: {shapes}. Give at least one example.")
        if len(first) != len(array):
            raise DataError(
                f"{name}: {len(first)} examples but {len(array)} {what}. Give as many of each."
            )
    return split


def _named(split: Split) -> Iterator[tuple[str, NDArray]]:
    """Yield each array with what it holds."""
    for what, part in zip(("examples", "labels", "weights"), split.three, strict=True):
        yield from ((what, array) for array in leaves(part) if array is not None)


def _told_apart(split: Split) -> tuple[Any, Any, Any]:
    """Return examples, labels and weights as structures whose leaves become arrays.

    A list of arrays becomes a tuple of one for each input, unless there are as many as labels: then
    it is of examples. A tuple is of inputs.
    """
    x, labels = split.x, next(iter(split.y.values())) if isinstance(split.y, dict) else split.y
    arrays = isinstance(x, list | tuple) and all(map(is_array, x))
    if arrays and (isinstance(x, tuple) or (len(x),) != np.shape(labels)[:1]):
        x = tuple(x)
    elif not isinstance(x, dict):
        x = np.asarray(x)
    return x, *(
        part if part is None or isinstance(part, dict) else np.asarray(part)
        for part in (split.y, split.w)
    )


def _scaled(array: NDArray, scale: float) -> NDArray:
    # Bytes and 16-bit integers are images and sounds; wider integers may be tokens, and stay.
    if scale != 1 or array.dtype == np.float64 or array.dtype.itemsize < 4:
        return array.astype(np.float32) * np.float32(scale)
    return array


def _weights(w: Any, y: Any, name: str) -> Any:
    """Return weights of samples in 32 bits, for each of several outputs."""
    for array in leaves(w):
        if array is not None and (array.ndim != 1 or (array < 0).any()):
            raise DataError(
                f"{name}: expected one weight >= 0 for each example. Received {array.dtype} of "
                f"shape {array.shape}, the smallest {array.min():g}."
            )
    if w is None:
        return None
    if isinstance(y, dict) and not isinstance(w, dict):
        w = dict.fromkeys(y, w)
    return mapped(lambda array: array.astype(np.float32), w)


def _check_finite(array: NDArray, name: str) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        first = int(np.argmax(bad))
        kind = "NaN" if np.isnan(array[first]).any() else "infinity"
        raise DataError(
            f"{name} hold {kind}, {int(bad.sum())} of {len(array)} are not finite, the first is "
            f"number {first}. Drop or fill them."
        )
