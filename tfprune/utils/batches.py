"""Data in any usual form, as batches."""

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from tfprune.errors import DataError, type_name

SIZE = 32
"""Samples of a batch, where the data are arrays and nothing else is said."""

ENDLESS = -1
"""How many batches `tf.data` says that an endless dataset has."""


class Batch(NamedTuple):
    """What a model is given at once: its inputs, and their labels and weights if there are any."""

    inputs: Any
    labels: Any = None
    weights: Any = None

    @property
    def size(self) -> int:
        """How many samples it holds."""
        return int(np.shape(tree.flatten(self.inputs)[0])[0])


def as_batches(data: Any, name: str, count: int = 1) -> list[Batch]:
    """Data as a list of batches; see `each_batch`.

    Example:
        >>> x, y = np.zeros((40, 3)), np.zeros(40)
        >>> [len(batch.inputs) for batch in as_batches((x, y), "data")]
        [32, 8]
    """
    return list(each_batch(data, name, count))


def each_batch(data: Any, name: str, count: int = 1, size: int = SIZE) -> Iterator[Batch]:
    """Data batch after batch, so that no more than one has to be held.

    Args:
        data: As for `fit`: (inputs, labels) or (inputs, labels, sample weights); inputs alone: an
            array, a dict of arrays, or for a model of several inputs a list of as many arrays; or
            an iterable of batches of these, such as a `tf.data.Dataset`.
        name: The option that it was given as, for error messages.
        count: How many inputs the model takes.
        size: Samples of a batch, where the data are arrays.

    Raises:
        DataError: The data is missing, empty, endless, or none of these.
    """
    forms = "give (inputs, labels), inputs, or an iterable of batches"
    if data is None:
        raise DataError(f"{name}=: there is none; {forms}")
    if isinstance(data, tuple) and (len(data) == 2 or _is_weighted(data)):
        yield from _cut(Batch(*data), name, size)
        return
    several = isinstance(data, list) and len(data) == count > 1
    if is_array(data) or isinstance(data, dict) or (several and all(map(is_array, data))):
        yield from _cut(Batch(data), name, size)
        return
    if isinstance(data, str) or not isinstance(data, Iterable | keras.utils.PyDataset):
        raise DataError(f"{name}=: {forms}. Received {type_name(data)}")
    empty = True
    for item in _items(data, name):
        empty = False
        three = _is_weighted(item) and not (count == 3 and all(map(is_array, item)))
        yield Batch(*item) if three or (isinstance(item, tuple) and len(item) == 2) else Batch(item)
    if empty:
        raise DataError(f"{name}= is empty: it gives no batch")


def _is_weighted(thing: Any) -> bool:
    """Tell (inputs, labels, weights) from three batches."""
    if not isinstance(thing, tuple) or len(thing) != 3:
        return False
    return not any(isinstance(part, tuple) for part in thing)


def _items(data: Any, name: str) -> Iterable[Any]:
    """The batches of an iterable that comes to an end."""
    if isinstance(data, keras.utils.PyDataset):
        # It has no end when it is iterated.
        endless = data.num_batches is None
        items: Iterable[Any] = (data[index] for index in range(data.num_batches or 0))
    else:
        cardinality = getattr(data, "cardinality", None)
        endless = callable(cardinality) and int(cardinality()) == ENDLESS
        items = data
    if endless:
        raise DataError(f"{name}=: the data has no end (repeat()?): give a part, as data.take(100)")
    return items


def is_array(thing: Any) -> bool:
    """Tell an array or tensor from what holds some."""
    return hasattr(thing, "shape") and hasattr(thing, "dtype")


def _cut(both: Batch, name: str, size: int) -> Iterator[Batch]:
    """Cut arrays into batches."""
    parts = [_mapped(np.asarray, part) for part in both]
    leaves = [leaf for leaf in tree.flatten(parts) if leaf is not None]
    lengths = sorted({len(leaf) if leaf.ndim else 0 for leaf in leaves})
    if not leaves or lengths[0] == 0:
        raise DataError(f"{name}= is empty: it has no sample")
    if len(lengths) > 1:
        raise DataError(f"{name}=: arrays of one length are needed. Received lengths {lengths}")
    for start in range(0, lengths[0], size):
        cut = itemgetter(slice(start, start + size))
        yield Batch(*(_mapped(cut, part) for part in parts))


def _mapped(function: Callable[[Any], Any], whole: Any) -> Any:
    """The same structure with a function applied to all in it that is there."""
    return tree.map_structure(lambda leaf: None if leaf is None else function(leaf), whole)
