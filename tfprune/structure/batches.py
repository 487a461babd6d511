"""The data that units are judged and repaired by, in any usual form, as batches."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from tfprune.errors import DataError, type_name
from tfprune.structure.graph import Graph, Shape, fits

SIZE = 32
"""Samples of a batch, where the data are arrays."""

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


def each_batch(data: Any, name: str, count: int = 1) -> Iterator[Batch]:
    """Data batch after batch, so that no more than one has to be held.

    Args:
        data: As for `fit`: (inputs, labels) or (inputs, labels, sample weights); inputs alone: an
            array, a dict of arrays, or for a model of several inputs a list of as many arrays; or
            an iterable of batches of these, such as a `tf.data.Dataset`.
        name: The option that it was given as, for error messages.
        count: How many inputs the model takes.

    Raises:
        DataError: The data is missing, empty, endless, or none of these.
    """
    forms = "give (inputs, labels), inputs, or an iterable of batches"
    if data is None:
        raise DataError(f"{name}=: there is none; {forms}")
    if isinstance(data, tuple) and (len(data) == 2 or _is_weighted(data)):
        yield from _cut(Batch(*data), name)
        return
    several = isinstance(data, list) and len(data) == count > 1
    if _is_array(data) or isinstance(data, dict) or (several and all(map(_is_array, data))):
        yield from _cut(Batch(data), name)
        return
    if isinstance(data, str) or not isinstance(data, Iterable | keras.utils.PyDataset):
        raise DataError(f"{name}=: {forms}. Received {type_name(data)}")
    empty = True
    for item in _items(data, name):
        empty = False
        three = _is_weighted(item) and not (count == 3 and all(map(_is_array, item)))
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
    else:
        cardinality = getattr(data, "cardinality", None)
        endless = callable(cardinality) and int(cardinality()) == ENDLESS
    if endless:
        raise DataError(f"{name}=: the data has no end (repeat()?): give a part, as data.take(100)")
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(data.num_batches))
    return data


def _is_array(thing: Any) -> bool:
    return hasattr(thing, "shape") and hasattr(thing, "dtype")


def _cut(both: Batch, name: str) -> list[Batch]:
    """Cut arrays into batches."""
    leaves = [np.asarray(leaf) for leaf in tree.flatten(tuple(both)) if leaf is not None]
    lengths = sorted({len(leaf) if leaf.ndim else 0 for leaf in leaves})
    if not leaves or lengths[0] == 0:
        raise DataError(f"{name}= is empty: it has no sample")
    if len(lengths) > 1:
        raise DataError(f"{name}=: arrays of one length are needed. Received lengths {lengths}")

    def part(start: int) -> Batch:
        def cut(leaf: Any) -> Any:
            return None if leaf is None else np.asarray(leaf)[start : start + SIZE]

        return Batch(*(tree.map_structure(cut, whole) for whole in both))

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
    inputs = by_name(inputs, graph.inputs, [layer.name for layer in graph.input_layers], name)
    values = [graph.values[ref.index] for ref in tree.flatten(graph.inputs)]
    check_batch([value.shape for value in values], inputs, name)
    return [
        keras.ops.convert_to_tensor(array, dtype=value.dtype)
        for array, value in zip(tree.flatten(inputs), values, strict=True)
    ]


def by_name(inputs: Any, wanted: Any, names: Sequence[str], option: str) -> Any:
    """Inputs that are given as a dict in the order in which a model takes them.

    Args:
        inputs: What is given; what is no dict is given back.
        wanted: The model's own structure of inputs: of a dict the keys count, else the names.
        names: The names of its inputs.
        option: As what the data was given, for error messages.

    Raises:
        DataError: One of them is missing.
    """
    if not isinstance(inputs, dict):
        return inputs
    keys = list(wanted) if isinstance(wanted, dict) else names
    missing = [key for key in keys if key not in inputs]
    if missing:
        raise DataError(f"{option}=: no input {missing[0]!r}. Received {sorted(inputs)}")
    if isinstance(wanted, dict):
        return {key: inputs[key] for key in keys}
    return [inputs[key] for key in keys]
