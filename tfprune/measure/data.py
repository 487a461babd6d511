"""Data to score files on: arrays or a dataset, in batches, checked before anything runs on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.errors import DataError, type_name


@dataclass(frozen=True)
class Batch:
    """Some samples: what a file takes, and the truth about them."""

    x: Any
    y: Any
    first: int
    size: int


def batches(data: Any, batch_size: int = 64) -> Iterator[Batch]:
    """Yield the samples of `data` with their labels, as numpy arrays.

    Args:
        data: A pair (x, y) of arrays, where x may be a dict from input name to array or a tuple
            of arrays; or an iterable of such pairs that are batches already, like a
            `tf.data.Dataset`.
        batch_size: The size of the batches cut from arrays.

    Raises:
        DataError: There is nothing in it, x and y differ in length, or x holds NaN or infinity.
    """
    first = 0
    for x, y in _pairs(data, batch_size):
        size = _length(x)
        if size != _length(y):
            raise DataError(f"data: {size} inputs with {_length(y)} labels; each needs one")
        if size:
            _check_finite(x, first)
            yield Batch(x, y, first, size)
        first += size
    if not first:
        raise DataError("data: empty; at least one sample is needed to score a file")


def _pairs(data: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, tuple | list) and len(data) == 2:
        x, y = (_numpy(part) for part in data)
        lengths = {len(array) for array in [*_arrays(x), *_arrays(y)]}
        if len(lengths) > 1:
            raise DataError(f"data: {_length(x)} inputs with {_length(y)} labels; each needs one")
        for start in range(0, max(lengths), batch_size):
            cut = slice(start, start + batch_size)
            yield (
                _map(x, lambda array, cut=cut: array[cut]),
                _map(y, lambda array, cut=cut: array[cut]),
            )
        return
    if isinstance(data, np.ndarray | str | bytes | Mapping) or not hasattr(data, "__iter__"):
        raise DataError(
            f"data: expected a pair (x, y) of arrays or a dataset of such batches. "
            f"Received {type_name(data)}"
        )
    for element in data:
        if not isinstance(element, tuple | list) or len(element) not in (2, 3):
            raise DataError(
                f"data: expected batches (x, y). Received an element of type {type_name(element)}"
            )
        yield _numpy(element[0]), _numpy(element[1])


def _numpy(value: Any) -> Any:
    """Turn arrays and tensors into numpy arrays, alone or in a dict or tuple."""
    if isinstance(value, Mapping | tuple):
        return _map(value, np.asarray)
    array = np.asarray(value)
    if not array.ndim:
        raise DataError(
            "data: expected arrays whose first axis counts samples, got a single number"
        )
    return array


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: change(array) for name, array in value.items()}
    if isinstance(value, tuple):
        return tuple(change(array) for array in value)
    return change(value)


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, tuple) else [value]


def _length(value: Any) -> int:
    return len(_arrays(value)[0])


def _check_finite(x: Any, first: int) -> None:
    for array in _arrays(x):
        if array.dtype.kind != "f":
            continue
        good = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not good.all():
            raise DataError(
                f"data: sample {first + int(np.argmin(good))} holds NaN or infinity; "
                "clean the data first"
            )
