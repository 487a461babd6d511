"""Data to score files on: arrays or a dataset, in batches, checked before anything runs on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.errors import DataError, OptionError, type_name

# What the cardinality of an infinite tf.data.Dataset is.
_ENDLESS = -1


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
            `tf.data.Dataset` or a `keras.utils.PyDataset`.
        batch_size: The size of the batches cut from arrays.

    Raises:
        DataError: There is nothing in it, x and y differ in length, x holds NaN or infinity, or
            the dataset has no end.
        OptionError: The batch size is none.
    """
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise OptionError(f"batch_size: expected a whole number >= 1. Received {batch_size!r}")
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
    # A keras.utils.PyDataset goes on for ever when it is iterated, and older ones are not at all.
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    readable = indexed or hasattr(data, "__iter__")
    if isinstance(data, np.ndarray | str | bytes | Mapping) or not readable:
        raise DataError(
            f"data: expected a pair (x, y) of arrays or a dataset of such batches. "
            f"Received {type_name(data)}"
        )
    if hasattr(data, "cardinality") and int(data.cardinality()) == _ENDLESS:
        raise DataError("data: the dataset has no end; leave out repeat(), or end it with take(n)")
    for element in (data[i] for i in range(len(data))) if indexed else data:
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
