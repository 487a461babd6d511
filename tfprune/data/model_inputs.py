"""The inputs of a model, and checks that arrays fit them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.errors import DataError, ModelError, nearest

Shape = tuple[int | None, ...]


def told(option: str) -> str:
    """Return how errors name data: `data=` for an argument, else its own name, with a colon."""
    return option if ":" in option else f"{option}="


@dataclass(frozen=True)
class OneInput:
    """One input: None for open sizes, and "" for the type if arrays are quantized later."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class ModelInputs:
    """All inputs of a model.

    Attributes:
        inputs: In the order of the model.
        structure: The structure that the model's call takes: indices into `inputs`, alone or in a
            dict, list or tuple. The keys of a dict may be used as names.
    """

    inputs: tuple[OneInput, ...]
    structure: Any

    @property
    def names(self) -> list[str]:
        """Return the names for data in a dict: the keys of the structure, or the inputs' names."""
        if not isinstance(self.structure, Mapping):
            return [one.name for one in self.inputs]
        keys = {place: key for key, place in self.structure.items() if isinstance(place, int)}
        return [keys.get(place, one.name) for place, one in enumerate(self.inputs)]

    def packed(self, arrays: Sequence[Any]) -> Any:
        """Return the arrays in the structure that the model's call takes."""
        return mapped(lambda place: arrays[place], self.structure)

    def in_order(self, by_name: Mapping[str, Any], option: str) -> list[Any]:
        """Return the values of a dict in the order of the inputs; the names must match exactly."""
        names = self.names
        own = [one.name for one in self.inputs]
        if set(by_name) == set(own):
            names = own
        faults = []
        missing = [name for name in names if name not in by_name]
        if missing:
            faults.append(f"no input {missing[0]!r}. Received {sorted(map(str, by_name))}")
        unknown = [str(name) for name in by_name if name not in names]
        if unknown:
            faults.append(f"unknown input {unknown[0]!r}. {nearest(unknown[0], names)}")
        if faults:
            raise DataError(f"{told(option)}: {'; '.join(faults)}")
        return [by_name[name] for name in names]

    def in_structure(self, given: Any) -> list[Any] | None:
        """Return the leaves of a structure like that of the inputs, in their order; else None."""
        found: dict[int, Any] = {}
        parts = self.structure
        if isinstance(parts, int) or all(isinstance(part, int) for part in _parts(parts)):
            return None
        return [found[place] for place in sorted(found)] if _placed(parts, given, found) else None

    def check_shapes(self, arrays: Sequence[Any], option: str) -> None:
        """Raise unless arrays have the shapes of the inputs, with any batch size."""
        for array, one in zip(arrays, self.inputs, strict=True):
            shape, wanted = tuple(np.shape(array)), (None, *one.shape[1:])
            if not fits(shape, wanted):
                raise DataError(
                    f"{told(option)}: input {one.name!r}: expected a batch of shape {wanted}. "
                    f"Received {shape}"
                )

    def checked(
        self, arrays: Sequence[Any], option: str, numbers: Sequence[int] | np.ndarray
    ) -> list[np.ndarray]:
        """Return a batch, in the order of the inputs, in their types.

        For errors, `option` is the name of the argument, and `numbers` are the places of the
        samples.

        Raises:
            DataError: A wrong shape, no numbers, NaN or infinity, or a number out of range.
        """
        self.check_shapes(arrays, option)
        result = []
        for given, one in zip(arrays, self.inputs, strict=True):
            where = f"{told(option)}: input {one.name!r}"
            array = np.asarray(given)
            if one.dtype == "string":
                result.append(array)
                continue
            check_numbers(array, option, where, numbers)
            result.append(_cast(array, one, where))
        return result


def _parts(structure: Any) -> list[Any]:
    return list(structure.values() if isinstance(structure, Mapping) else structure)


def _placed(structure: Any, given: Any, found: dict[int, Any]) -> bool:
    """Collect leaves by the index of their input; return False if the structures differ."""
    if isinstance(structure, int):
        found[structure] = given
        return True
    if isinstance(structure, Mapping):
        same = isinstance(given, Mapping) and set(given) == set(structure)
        given = [given[key] for key in structure] if same else []
    else:
        same = isinstance(given, list | tuple) and len(given) == len(structure)
        given = given if same else []
    return same and all(
        _placed(part, one, found) for part, one in zip(_parts(structure), given, strict=same)
    )


def fits(shape: Sequence[int | None], wanted: Shape) -> bool:
    """Return whether a shape matches one with open sizes."""
    return len(shape) == len(wanted) and all(
        size is None or size == here for size, here in zip(wanted, shape, strict=True)
    )


def check_numbers(
    array: np.ndarray, option: str, where: str, numbers: Sequence[int] | np.ndarray
) -> None:
    """Raise unless an array holds numbers, all finite."""
    # NumPy does not treat bfloat16 as a number.
    array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: expected numbers, in arrays of one shape. Received {array.dtype}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        good = np.isfinite(array).reshape(len(array), -1).all(1)
        raise DataError(
            f"{told(option)} holds NaN or infinity in sample {numbers[int(np.argmin(good))]}; "
            "clean the data first"
        )


def _cast(array: np.ndarray, one: OneInput, where: str) -> np.ndarray:
    """Return the array in the type of an input; raise if that changes more than the last digits."""
    if one.dtype in (array.dtype.name, "bfloat16", ""):
        return array
    dtype = np.dtype(one.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "iub" and (cast != array).any():
        bad = array[cast != array].flat[0]
        raise DataError(f"{where}: the model takes {dtype}. Received {bad}")
    if dtype.kind == "f" and not np.isfinite(cast).all():
        bad = array[~np.isfinite(cast)].flat[0]
        raise DataError(f"{where}: {bad:g} is too large for {dtype}, which the model takes")
    return cast


def inputs_of(model: Any) -> ModelInputs | None:
    """Return the inputs of a Keras model; None for a subclassed one, where they are unknown."""
    declared = getattr(model, "inputs", None)
    if not isinstance(declared, list) or not declared:
        return None
    from keras import KerasTensor, Sequential, tree

    if not all(isinstance(tensor, KerasTensor) for tensor in declared):
        return None
    structure = declared[0] if isinstance(model, Sequential) else model.input
    places = {id(tensor): place for place, tensor in enumerate(declared)}
    return ModelInputs(
        tuple(OneInput(one.name, tuple(one.shape), str(one.dtype)) for one in declared),
        tree.map_structure(lambda tensor: places[id(tensor)], structure),
    )


def known_inputs(model: Any) -> ModelInputs:
    """Return the inputs of a Keras model.

    Raises:
        ModelError: They are unknown.
    """
    takes = inputs_of(model)
    if takes is None:
        raise ModelError(
            f"the model {model.name!r}: its inputs are unknown; build it on keras.Input"
        )
    return takes


def inputs_of_specs(specs: Iterable[Any]) -> ModelInputs:
    """Return the inputs of a file or an `Interface`, as a flat list."""
    inputs = []
    for spec in specs:
        shape = tuple(None if size == -1 else size for size in spec.shape)
        inputs.append(OneInput(spec.name, shape, "" if spec.scale else spec.dtype))
    return ModelInputs(tuple(inputs), tuple(range(len(inputs))))


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """Return a nested dict, list or tuple with a function applied to its leaves."""
    if isinstance(structure, Mapping):
        return {key: mapped(function, value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        kind = tuple if isinstance(structure, tuple) else list
        return kind(mapped(function, value) for value in structure)
    return function(structure)


def leaves(structure: Any) -> list[Any]:
    """Return the leaves of a nested dict, list or tuple."""
    found: list[Any] = []
    mapped(found.append, structure)
    return found
