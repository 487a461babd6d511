"""The accepted forms of data and their meaning, the same in every call that takes data.

an array (NumPy, memory-mapped, a tensor)     inputs
a dict from input name to array               inputs
a list of arrays, one for each input          the inputs of a model of several
(inputs, labels)                              a tuple of two
(inputs, labels, weights)                     a tuple of three; the weights are of samples
(inputs,)                                     a tuple of one, where inputs are a tuple or list
a tf.data.Dataset, a keras.utils.PyDataset,   batches in the forms above, or single samples:
a list, a generator, another iterable         the shapes that the model takes tell them apart
a function without arguments                  what it returns
"""

import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.data.model_inputs import ModelInputs, mapped, told
from tfprune.errors import DataError, type_name

ENDLESS = -1
"""The cardinality that `tf.data` gives an endless dataset."""

FORMS = (
    "give inputs, (inputs, labels) or (inputs, labels, weights), where inputs are an array, a dict "
    "of arrays or for several inputs a list of arrays; or a dataset or another iterable of these"
)


@dataclass(frozen=True)
class Parts:
    """Inputs, labels and weights of samples, as arrays; `named`: the inputs were a dict.

    The inputs are a list in the order of the model's inputs, or if those are unknown, in the
    structure of the data.
    """

    inputs: Any
    labels: Any = None
    weights: Any = None
    named: bool = False

    @property
    def three(self) -> tuple[Any, Any, Any]:
        """Return inputs, labels, weights."""
        return self.inputs, self.labels, self.weights

    def mapped(self, function: Callable[[Any], Any]) -> "Parts":
        """Return the parts with a function applied to every array."""
        inputs, labels, weights = mapped(
            lambda leaf: None if leaf is None else function(leaf), self.three
        )
        return Parts(inputs, labels, weights, self.named)


@dataclass(frozen=True)
class Forms:
    """Reads the data of one call; `option` is the name of the argument in errors."""

    takes: ModelInputs | None
    option: str
    labels: bool = True

    def called(self, data: Any) -> Any:
        """Return the result of a function; other data unchanged."""
        if not callable(data) or hasattr(data, "__iter__"):
            return data
        if not _takes_nothing(data):
            raise DataError(
                f"{told(self.option)}: a function that returns samples must take no arguments"
            )
        return data()

    def whole(self, data: Any) -> Parts | None:
        """Return all samples if the data is arrays; None if it must be iterated.

        Raises:
            DataError: The arrays do not fit the model, or are ambiguous.
        """
        if isinstance(data, tuple):
            found = not self._are_batches(data)
        elif not isinstance(data, list):
            found = is_array(data) or isinstance(data, Mapping)
        elif self.takes is None:
            if data and all(map(is_array, data)):
                raise DataError(
                    f"{told(self.option)}: the number of inputs of the model is unknown, so a list "
                    f"of {len(data)} arrays may be inputs or batches: give ([…],) or iter([…])"
                )
            found = _is_numbers(data)
        elif len(self.takes.inputs) > 1:
            arrays = all(is_array(part) or _is_numbers(part) for part in data)
            found = arrays and len(data) == len(self.takes.inputs)
            found = found or self.takes.in_structure(data) is not None
        else:
            rank = len(self.takes.inputs[0].shape)
            numbers = _is_numbers(data) and np.ndim(self._array(data)) == rank
            found = numbers or _are_samples(data, rank)
        return self.parts(data) if found else None

    def elements(self, data: Any, *, endless: bool = False) -> Iterable[Any]:
        """Return the elements of data that is not `whole`; raise if endless and not allowed.

        Raises:
            DataError: It has an unknown form, or is endless.
        """
        if data is None:
            raise DataError(f"{told(self.option)}: the data is missing; {FORMS}")
        items: Iterable[Any]
        # Iterating a keras.utils.PyDataset never ends; an endless one has no number of batches.
        counted = hasattr(data, "num_batches") or hasattr(data, "__len__")
        if counted and hasattr(data, "__getitem__") and not isinstance(data, Sequence):
            count = announced_length(data)
            known = count is not None
            numbers = itertools.count() if count is None else range(count)
            items = (data[index] for index in numbers)
        elif isinstance(data, Iterable) and not isinstance(data, str | bytes | os.PathLike):
            cardinality = getattr(data, "cardinality", None)
            known = not callable(cardinality) or int(cardinality()) != ENDLESS
            items = data.as_numpy_iterator() if hasattr(data, "as_numpy_iterator") else data
        else:
            raise DataError(f"{told(self.option)}: {FORMS}. Received {type_name(data)}")
        if not known and not endless:
            raise DataError(
                f"{told(self.option)}: the data is endless (repeat()?): give a part, such as "
                "data.take(100)"
            )
        return items

    def parts(self, item: Any) -> Parts:
        """Return inputs, labels and weights of all samples, a batch, or one sample.

        Raises:
            DataError: The number of inputs is wrong, or the form is ambiguous.
        """
        inputs, *rest = item if isinstance(item, tuple) and item else (item,)
        if len(rest) > 2:
            raise DataError(
                f"{told(self.option)}: a tuple is (inputs,), (inputs, labels) or (inputs, labels, "
                f"weights). Received one of {len(item)}; give batches as a list, and "
                f"{self._way_out()}"
            )
        named = isinstance(inputs, Mapping)
        nested = self.takes.in_structure(inputs) if self.takes else None
        if self.takes is None:
            inputs = self._arrays(inputs)
        elif nested is not None:
            inputs = [self._array(part) for part in nested]
        elif named:
            inputs = [self._array(part) for part in self.takes.in_order(inputs, self.option)]
        else:
            inputs = self._in_a_list(inputs, self.takes)
            count = len(self.takes.inputs)
            if len(inputs) != count:
                what = "; a tuple is (inputs, labels)" if isinstance(item, tuple) else ""
                hint = f"{what}; give {self._way_out()}" if count > 1 else ""
                raise DataError(
                    f"{told(self.option)}: the model takes {count} input{'s' * (count > 1)}. "
                    f"Received {len(inputs)}{hint}"
                )
        if not self.labels:
            return Parts(inputs, named=named)
        labels, weights = (*map(self._arrays, rest), None, None)[:2]
        return Parts(inputs, labels, weights, named)

    def _are_batches(self, data: tuple[Any, ...]) -> bool:
        """Return whether a tuple holds batches, not (inputs, labels) that are tuples themselves."""
        tuples = len(data) > 1 and all(isinstance(part, tuple) for part in data)
        return tuples and self.takes is not None and len(data[0]) != len(self.takes.inputs)

    def _in_a_list(self, inputs: Any, takes: ModelInputs) -> list[Any]:
        one = len(takes.inputs) == 1
        if is_array(inputs) or (one and (_is_numbers(inputs) or inputs == [])):
            return [self._array(inputs)]
        if not isinstance(inputs, list | tuple):
            raise DataError(
                f"{told(self.option)}: {FORMS}. Received {type_name(inputs)} for inputs"
            )
        if one and _are_samples(inputs, len(takes.inputs[0].shape)):
            return [np.stack([np.asarray(sample) for sample in inputs])]
        return [self._array(part) for part in inputs]

    def _way_out(self) -> str:
        """Return how to give several inputs, as the end of an error message."""
        several = self.takes is not None and len(self.takes.inputs) > 1
        names = self.takes.names if self.takes and several else ["a", "b"]
        listed, keys = ", ".join(names), ", ".join(f"{name!r}: …" for name in names)
        return (
            f"several inputs as a list [{listed}] or a dict {{{keys}}}, and in a dataset as "
            f"(({listed}),), or with labels (({listed}), labels)"
        )

    def _arrays(self, structure: Any) -> Any:
        """Return a structure with arrays as leaves; lists of numbers are leaves."""
        if isinstance(structure, Mapping):
            return {key: self._arrays(value) for key, value in structure.items()}
        if isinstance(structure, list | tuple) and structure and not _is_numbers(structure):
            return type(structure)(map(self._arrays, structure))
        return self._array(structure)

    def _array(self, thing: Any) -> Any:
        """Return an array that can be sliced, without a copy if possible; None stays None."""
        if thing is None or is_array(thing):
            return thing
        try:
            return np.asarray(thing)
        except ValueError:
            raise DataError(
                f"{told(self.option)}: samples of different shapes in a list; pad them to one shape"
            ) from None


def announced_length(data: Any) -> int | None:
    """Return the number of elements that data says it has; None if it does not."""
    cardinality = getattr(data, "cardinality", None)
    if callable(cardinality):
        count = int(cardinality())
        return count if count >= 0 else None
    if hasattr(data, "num_batches"):
        return None if data.num_batches is None else int(data.num_batches)
    return len(data) if hasattr(data, "__len__") else None


def is_array(thing: Any) -> bool:
    """Return whether something is an array, tensor or table, not a container of them."""
    return hasattr(thing, "shape") and (hasattr(thing, "dtype") or hasattr(thing, "__array__"))


def shape_of(array: Any) -> tuple[int, ...]:
    """Return the shape of an array, without reading it."""
    return tuple(np.shape(array))


def _are_samples(parts: Sequence[Any], rank: int) -> bool:
    """Return whether arrays are single samples of one shape for an input of a rank."""
    if not parts or not all(map(is_array, parts)):
        return False
    return len({shape_of(part) for part in parts}) == 1 and len(shape_of(parts[0])) == rank - 1


def _is_numbers(thing: Any) -> bool:
    """Return whether a list holds numbers, or lists of numbers, not arrays."""
    if isinstance(thing, list) and thing:
        return _is_numbers(thing[0])
    return isinstance(thing, bool | int | float | np.generic)


def _takes_nothing(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # a function in C has no signature
        return True
    return True
