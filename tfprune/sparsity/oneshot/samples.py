"""The samples that one-shot pruning looks at, as checked batches."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfprune.errors import DataError, type_name


def read_samples(model: Any, data: Any, batch_size: int) -> list[Any]:
    """Return unlabelled samples as a list of batches, each of the structure the model takes.

    Args:
        model: What they go into.
        data: An array; a list or dict of arrays for a model of several inputs; or a dataset or
            another iterable of batches, whose labels, if it has any, are ignored.
        batch_size: Samples a batch, where `data` is arrays.

    Raises:
        DataError: If there is no sample, one is not finite, or has not the shape of an input.
    """
    if _is_arrays(data):
        batches = _slices(_as_arrays(model, data), batch_size)
    else:
        batches = [_as_arrays(model, _without_labels(batch)) for batch in _iterate(data)]
    if not batches:
        raise DataError("prune_oneshot: data holds no sample; give a few hundred")
    for batch in batches:
        _check(model, batch)
    return batches


def count_samples(batch: Any) -> int:
    """Return how many samples a batch holds."""
    return len(keras.tree.flatten(batch)[0])


def _is_arrays(data: Any) -> bool:
    if isinstance(data, Mapping):
        return True
    if isinstance(data, (list, tuple)):
        return bool(data) and all(hasattr(entry, "shape") or np.ndim(entry) for entry in data)
    return hasattr(data, "shape") and not isinstance(data, tf.data.Dataset)


def _iterate(data: Any) -> Iterable[Any]:
    if isinstance(data, tf.data.Dataset):
        if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise DataError("prune_oneshot: data never ends; pass data.take(batches)")
        return data
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(len(data)))
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return data
    raise DataError(
        "prune_oneshot: data: expected an array of samples, a list or dict of arrays, or a dataset "
        f"of batches. Received {type_name(data)}."
    )


def _without_labels(batch: Any) -> Any:
    """Keras's convention: a tuple is (x, y) or (x, y, sample_weight)."""
    return batch[0] if isinstance(batch, tuple) and batch else batch


def _as_arrays(model: Any, data: Any) -> Any:
    """Return arrays in the structure that the model takes; of a subclassed model, as they are."""
    if isinstance(data, Mapping):
        arrays: Any = {key: _as_array(value) for key, value in data.items()}
    elif isinstance(data, (list, tuple)) and any(hasattr(entry, "shape") for entry in data):
        arrays = [_as_array(value) for value in data]
    else:
        arrays = _as_array(data)
    inputs = _declared(model)
    if inputs is None:
        return arrays
    flat = _in_order(arrays, model, [tensor.name for tensor in inputs])
    if len(flat) != len(inputs):
        raise DataError(
            f"prune_oneshot: data holds {len(flat)} arrays, but the model {model.name!r} has "
            f"{len(inputs)} input{'s' * (len(inputs) != 1)}; samples go without labels"
        )
    return keras.tree.pack_sequence_as(_structure(model), flat)


def _structure(model: Any) -> Any:
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _declared(model: Any) -> list[Any] | None:
    """Return the inputs that a model declares; a subclassed one declares none."""
    inputs = getattr(model, "inputs", None)
    known = isinstance(inputs, list) and all(isinstance(t, keras.KerasTensor) for t in inputs)
    return inputs if known else None


def _in_order(arrays: Any, model: Any, names: list[str]) -> list[Any]:
    if not isinstance(arrays, Mapping):
        return arrays if isinstance(arrays, list) else [arrays]
    structure = _structure(model)
    if isinstance(structure, Mapping) and set(arrays) == set(structure):
        return keras.tree.flatten({key: arrays[key] for key in structure})
    if set(arrays) != set(names):
        raise DataError(
            f"prune_oneshot: data has the keys {sorted(arrays)}, but the inputs of the model "
            f"{model.name!r} are {sorted(names)}"
        )
    return [arrays[name] for name in names]


def _as_array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype == object:
        raise DataError(
            "prune_oneshot: data: the samples differ in shape; pad them, or pass batches of one "
            "shape each"
        )
    return array


def _slices(arrays: Any, batch_size: int) -> list[Any]:
    sizes = {len(array) if array.ndim else 0 for array in keras.tree.flatten(arrays)}
    if len(sizes) > 1:
        raise DataError(f"prune_oneshot: data: the inputs differ in samples: {sorted(sizes)}")
    size = sizes.pop() if sizes else 0
    return [
        keras.tree.map_structure(lambda array, at=at: array[at : at + batch_size], arrays)
        for at in range(0, size, batch_size)
    ]


def _check(model: Any, batch: Any) -> None:
    arrays = keras.tree.flatten(batch)
    expected = _declared(model)
    if expected is not None:
        for array, tensor in zip(arrays, expected, strict=True):
            if not _fits(array.shape[1:], tensor.shape[1:]):
                raise DataError(
                    f"prune_oneshot: data: the input {tensor.name!r} takes samples of shape "
                    f"{tensor.shape[1:]}. Received {array.shape[1:]}."
                )
    for array in arrays:
        if not array.ndim or not len(array):
            raise DataError("prune_oneshot: data holds an empty batch; give a few hundred samples")
        if np.issubdtype(array.dtype, np.inexact):
            bad = int(np.count_nonzero(~np.isfinite(array)))
            if bad:
                raise DataError(
                    f"prune_oneshot: data holds {bad:,} values that are NaN or infinite; the "
                    "reconstruction would carry them into every weight"
                )


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        want in (None, size) for size, want in zip(shape, expected, strict=True)
    )
