"""The data that units are judged and repaired by, in any usual form, as batches."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.errors import DataError, type_name
from tfprune.structure.graph import Graph, Shape, fits

SIZE = 32
"""Samples of a batch, where the data are arrays."""


def as_batches(data: Any, name: str, count: int = 1) -> list[tuple[Any, Any]]:
    """Data as a list of (inputs, labels or None).

    Args:
        data: A pair (inputs, labels); inputs alone: an array, a dict of arrays, or for a model of
            several inputs a list of as many arrays; or an iterable of batches of these, such as a
            `tf.data.Dataset`.
        name: The option that it was given as, for error messages.
        count: How many inputs the model takes.

    Raises:
        DataError: The data is missing, empty, or none of these.

    Example:
        >>> x, y = np.zeros((40, 3)), np.zeros(40)
        >>> [len(inputs) for inputs, labels in as_batches((x, y), "data")]
        [32, 8]
    """
    forms = "give (inputs, labels), inputs, or an iterable of batches"
    if data is None:
        raise DataError(f"{name}=: there is none; {forms}")
    if isinstance(data, tuple) and len(data) == 2:
        return _cut(*data, name)
    several = isinstance(data, list) and len(data) == count > 1
    if _is_array(data) or isinstance(data, dict) or (several and all(map(_is_array, data))):
        return _cut(data, None, name)
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise DataError(f"{name}=: {forms}. Received {type_name(data)}")
    batches = [
        item if isinstance(item, tuple) and len(item) == 2 else (item, None) for item in data
    ]
    if not batches:
        raise DataError(f"{name}= is empty: it gives no batch")
    return batches


def _is_array(thing: Any) -> bool:
    return hasattr(thing, "shape") and hasattr(thing, "dtype")


def _cut(inputs: Any, labels: Any, name: str) -> list[tuple[Any, Any]]:
    """Cut arrays into batches."""
    both = (inputs, labels)
    leaves = [np.asarray(leaf) for leaf in tree.flatten(both) if leaf is not None]
    lengths = sorted({len(leaf) if leaf.ndim else 0 for leaf in leaves})
    if not leaves or lengths[0] == 0:
        raise DataError(f"{name}= is empty: it has no sample")
    if len(lengths) > 1:
        raise DataError(f"{name}=: arrays of one length are needed. Received lengths {lengths}")

    def part(start: int) -> Any:
        return tree.map_structure(
            lambda leaf: None if leaf is None else np.asarray(leaf)[start : start + SIZE], both
        )

    return [part(start) for start in range(0, lengths[0], SIZE)]


def check_batch(wanted: Sequence[Shape], inputs: Any, name: str) -> None:
    """Raise unless inputs are as many arrays as a model takes, of its shapes, and finite.

    Raises:
        DataError: They are not.
    """
    flat = tree.flatten(inputs)
    if wanted and len(flat) != len(wanted):
        raise DataError(f"{name}=: the model takes {len(wanted)} inputs. Received {len(flat)}")
    for shape, array in zip(wanted, flat, strict=False):
        here = tuple(getattr(array, "shape", ()))
        if not fits(here, (None, *shape[1:])):
            what = here if _is_array(array) else type_name(array)
            raise DataError(f"{name}=: expected a batch of shape {shape}. Received {what}")
    for array in flat:
        numbers = np.asarray(array)
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise DataError(f"{name}= holds NaN or infinity")


def flat_inputs(graph: Graph, inputs: Any, name: str = "data") -> list[Any]:
    """The inputs of a batch as tensors, in the order of the model's; a dict is read by its keys.

    Raises:
        DataError: They are not what the model takes, or hold NaN or infinity.
    """
    names = graph.inputs
    if isinstance(names, dict) and isinstance(inputs, dict):
        missing = [key for key in names if key not in inputs]
        if missing:
            raise DataError(f"{name}=: no input {missing[0]!r}. Received {sorted(inputs)}")
        inputs = {key: inputs[key] for key in names}
    values = [graph.values[ref.index] for ref in tree.flatten(names)]
    check_batch([value.shape for value in values], inputs, name)
    return [
        keras.ops.convert_to_tensor(array, dtype=value.dtype)
        for array, value in zip(tree.flatten(inputs), values, strict=True)
    ]
