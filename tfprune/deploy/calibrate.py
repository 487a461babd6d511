"""Samples for calibration and comparison, from whatever holds the user's data."""

import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfprune.errors import DataError, nearest, type_name
from tfprune.runtime.artifact import TensorSpec

Samples = dict[str, np.ndarray]
"""An array for each input of a model, all with the same number of samples."""

LIMIT = 512


def calibration_samples(
    data: Any, inputs: Sequence[TensorSpec], *, limit: int = LIMIT
) -> tuple[Samples, int | None]:
    """Return samples that fit the inputs of a model.

    Args:
        data: One of: an array (a model with one input); a dict from input name to array; a tuple
            of arrays in the order of the inputs; a `tf.data.Dataset`, a list, a generator or a
            function that gives one, of samples or batches in those forms, each alone or with
            labels behind it: `(x, y)`, which are left out.
        inputs: What the model takes.
        limit: The most samples to use. Of arrays they are taken at even distances, since data is
            often sorted by class; of anything else from its beginning.

    Returns:
        The samples, and how many the data holds (None where it was not read to its end).

    Raises:
        DataError: Empty, NaN, not numbers, a wrong shape, an input missing or unknown.

    Example:
        >>> image = TensorSpec("image", (-1, 2), "float32")
        >>> calibration_samples([[0.0, 1.0], [2.0, 3.0]], [image])[0]["image"].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    whole = _whole(data, inputs)
    if whole is not None:
        samples = {
            spec.name: _checked(array, spec) for spec, array in zip(inputs, whole, strict=True)
        }
        total: int | None = _count(samples)
        if total and total > limit:
            index = np.linspace(0, total - 1, limit).round().astype(int)
            samples = {name: array[index] for name, array in samples.items()}
    else:
        samples, total = _gather(data, inputs, limit)
    if not _count(samples):
        raise DataError("calibration: the data is empty; give at least one sample, better 100")
    return samples, total


def random_samples(
    inputs: Sequence[TensorSpec], count: int, vocabulary: Mapping[str, int], *, seed: int = 0
) -> Samples:
    """Return random samples: normal for floats, uniform for integers.

    Args:
        inputs: What the model takes; open sizes other than the batch become 8.
        count: How many samples.
        vocabulary: For inputs that are indices: how many values they have.
        seed: The same seed gives the same samples.
    """
    rng = np.random.default_rng(seed)
    samples = {}
    for spec in inputs:
        shape = (count, *(8 if size == -1 else size for size in spec.shape[1:]))
        dtype = np.dtype(spec.dtype)
        if spec.name in vocabulary:
            samples[spec.name] = rng.integers(0, vocabulary[spec.name], shape).astype(dtype)
        elif dtype.kind == "f":
            samples[spec.name] = rng.normal(size=shape).astype(dtype)
        elif dtype.kind == "b":
            samples[spec.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            high = 256 if dtype == np.uint8 else 2
            samples[spec.name] = rng.integers(0, high, shape).astype(dtype)
    return samples


def _whole(data: Any, inputs: Sequence[TensorSpec]) -> list[Any] | None:
    """Return the arrays of all inputs when `data` is them; None when it gives elements."""
    if isinstance(data, Mapping):
        return _by_name(data, inputs)
    if isinstance(data, tuple):
        if len(data) != len(inputs):
            names = ", ".join(spec.name for spec in inputs)
            raise DataError(
                f"calibration: a tuple holds one array for each input ({names}), got {len(data)}; "
                "give the inputs without labels"
            )
        return list(data)
    if isinstance(data, list):
        ranks = [len(spec.shape) for spec in inputs]
        if len(inputs) > 1 and [np.ndim(part) for part in data] == ranks:
            return data
        if len(inputs) == 1 and data and not any(isinstance(x, tuple | Mapping) for x in data):
            shapes = {np.shape(part) for part in data}
            if len(shapes) == 1 and len(shapes.pop()) == ranks[0] - 1:
                return [data]
        return None
    if hasattr(data, "__array__"):
        if len(inputs) != 1:
            names = ", ".join(spec.name for spec in inputs)
            raise DataError(
                f"calibration: one array for {len(inputs)} inputs; give a dict with {names}"
            )
        return [data]
    return None


def _gather(data: Any, inputs: Sequence[TensorSpec], limit: int) -> tuple[Samples, int | None]:
    parts: dict[str, list[np.ndarray]] = {spec.name: [] for spec in inputs}
    count = 0
    ended = True
    for element in _elements(data):
        if count >= limit:
            ended = False
            break
        batch = _batch(element, inputs)
        for name, array in batch.items():
            parts[name].append(array)
        count += _count(batch)
    if not count:
        return {}, 0
    shapes = {spec.name: {part.shape[1:] for part in parts[spec.name]} for spec in inputs}
    for name, found in shapes.items():
        if len(found) > 1:
            raise DataError(
                f"calibration: samples of different shapes for input {name!r}: {sorted(found)}; "
                "pad them to one"
            )
    samples = {name: np.concatenate(arrays)[:limit] for name, arrays in parts.items()}
    return samples, count if ended and count <= limit else None


def _elements(data: Any) -> Iterator[Any]:
    if isinstance(data, str | os.PathLike):
        raise DataError(f"calibration: expected samples, got the name {str(data)!r}; load the file")
    if callable(data) and not hasattr(data, "__iter__"):
        if not _needs_nothing(data):
            raise DataError("calibration: a function that gives samples takes no arguments")
        data = data()
    if hasattr(data, "as_numpy_iterator"):
        return data.as_numpy_iterator()
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, list):
        return (data[i] for i in range(len(data)))  # keras.utils.PyDataset has no end when iterated
    if isinstance(data, Iterable):
        return itertools.chain(data)
    raise DataError(
        "calibration: expected an array, a dict, a tuple of arrays, a tf.data.Dataset or an "
        f"iterable of batches, got {type_name(data)}"
    )


def _needs_nothing(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # of a function in C, which has no signature
        return True
    return True


def _batch(element: Any, inputs: Sequence[TensorSpec]) -> Samples:
    """Return one element of a dataset as a batch."""
    if isinstance(element, tuple | list) and not _is_numbers(element):
        first = element[0] if len(element) else element
        nested = isinstance(first, Mapping | tuple | list) and not _is_numbers(first)
        if nested or (len(inputs) == 1 and len(element) <= 3):
            element = first
    if isinstance(element, Mapping):
        arrays = _by_name(element, inputs)
    elif isinstance(element, tuple | list) and len(inputs) > 1:
        if len(element) != len(inputs):
            raise DataError(
                f"calibration: an element with {len(element)} arrays for {len(inputs)} inputs; "
                "give dicts by input name, or ((inputs…), labels)"
            )
        arrays = list(element)
    elif len(inputs) == 1:
        arrays = [
            element[0]
            if isinstance(element, tuple | list)
            and len(element) == 1
            and np.ndim(element[0]) >= len(inputs[0].shape) - 1
            else element
        ]
    else:
        raise DataError(
            f"calibration: one array for {len(inputs)} inputs; give dicts by input name"
        )
    batch = {}
    for spec, array in zip(inputs, arrays, strict=True):
        array = np.asarray(array)
        if array.ndim == len(spec.shape) - 1:
            array = array[None]
        batch[spec.name] = _checked(array, spec)
    _count(batch)
    return batch


def _is_numbers(element: Any) -> bool:
    """Tell a sample written as a plain list of numbers from a tuple of arrays."""
    return isinstance(element, list) and bool(element) and isinstance(element[0], int | float)


def _by_name(data: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> list[Any]:
    names = [spec.name for spec in inputs]
    for name in data:
        if name not in names:
            raise DataError(f"calibration: {name!r} is no input. {nearest(str(name), names)}")
    for name in names:
        if name not in data:
            raise DataError(f"calibration: no data for input {name!r}; got {sorted(data)}")
    return [data[name] for name in names]


def _checked(data: Any, spec: TensorSpec) -> np.ndarray:
    """Return the data of one input in its type, after checking shape and values."""
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        raise DataError(f"calibration, input {spec.name!r}: expected numbers, got {array.dtype}")
    fits = array.ndim == len(spec.shape) and all(
        want in (-1, size) for want, size in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        shape = ", ".join(["n", *("any" if size == -1 else str(size) for size in spec.shape[1:])])
        raise DataError(
            f"calibration, input {spec.name!r}: expected shape ({shape}), got {array.shape}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))[0])
        raise DataError(
            f"calibration, input {spec.name!r}: NaN or infinity in sample {bad}; clean the data"
        )
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iub" and array.dtype != dtype and array.size:
        with np.errstate(invalid="ignore"):
            cast = array.astype(dtype)
        if (cast != array).any():
            raise DataError(
                f"calibration, input {spec.name!r}: the model takes {dtype}, and "
                f"{array[cast != array].flat[0]} is none"
            )
        return cast
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(cast).all():
        raise DataError(
            f"calibration, input {spec.name!r}: {array[~np.isfinite(cast)].flat[0]:g} is too large "
            f"for {dtype}, which the model takes"
        )
    return cast


def _count(samples: Samples) -> int:
    counts = {name: len(array) for name, array in samples.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"calibration: the inputs have different numbers of samples: {counts}")
    return next(iter(counts.values()), 0)
