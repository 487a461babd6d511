"""Batches given to a model as it takes them, and refused where it does not."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.errors import DataError, type_name
from tfprune.graph.read import Graph, Shape, fits
from tfprune.utils.batches import is_array


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
            what = here if is_array(array) else type_name(array)
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
