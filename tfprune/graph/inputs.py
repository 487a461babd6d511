"""The inputs of a model or graph: their shapes, and batches of data as tensors for them."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.data.model_inputs import ModelInputs, OneInput, Shape, fits
from tfprune.errors import ModelError, OptionError, type_name
from tfprune.graph.graph import Graph
from tfprune.keras_support.internals import built_shapes

_TRIALS = 81
"""How many combinations of types are tried."""

InputShape = tuple[Any, ...] | list[Any] | dict[str, Any]
"""Sizes without the batch; for several inputs a list or dict of these."""


def check_shapes(given: Any, takes: Sequence[Shape]) -> None:
    """Raise unless shapes without the batch fit a model's inputs."""
    shapes = list(given_shapes(given))
    if takes and len(shapes) != len(takes):
        raise OptionError(
            f"input_shape: the model takes {len(takes)} inputs. Received {len(shapes)} shapes"
        )
    for shape, wanted in zip(shapes, takes, strict=False):
        if not fits(shape, wanted[1:]):
            raise OptionError(
                f"input_shape: expected a shape like {wanted[1:]}, without the batch. "
                f"Received {shape}"
            )


def given_shapes(given: Any) -> Iterator[Shape]:
    """Yield the shapes of an `input_shape`, in the order of the model's inputs."""
    if isinstance(given, dict):
        for key in sorted(given):
            yield from given_shapes(given[key])
    elif isinstance(given, list | tuple):
        if all(size is None or _is_size(size) for size in given):
            yield tuple(None if size is None else int(size) for size in given)
            return
        for part in given:
            yield from given_shapes(part)
    else:
        raise OptionError(
            "input_shape: expected a tuple of sizes without the batch, or a list or dict of these "
            f"for several inputs. Received {given!r}"
        )


def _is_size(size: Any) -> bool:
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    return whole and int(size) > 0


def symbolic_inputs(model: Any, input_shape: Any) -> Any:
    """Return symbolic inputs for a subclassed model, with the shapes it was built with."""
    if input_shape is None:
        shapes = built_shapes(model)
        if not model.built or not shapes:
            raise ModelError(
                f"model {model.name!r} ({type_name(model)}) is subclassed and was never called: "
                "call it on a batch of data, or pass input_shape="
            )
        if len(shapes) != 1:
            raise ModelError(
                f"model {model.name!r} takes {len(shapes)} arguments ({', '.join(shapes)}): "
                "a subclassed model must take one (which may be a list or dict of tensors)"
            )
        found = next(iter(shapes.values()))
    else:
        found = tree.map_shape_structure(lambda s: (None, *s), _plain(input_shape))
    return tree.map_structure(
        lambda spec: keras.Input(batch_shape=tuple(spec.shape), dtype=spec.dtype.name),
        typed(model, found),
    )


def typed(model: Any, shapes: Any) -> Any:
    """Return the shapes of a subclassed model's inputs, with types that its call takes.

    Keras records the shapes, not the types. Indices that are floats fail in TensorFlow, so tracing
    the call shows which inputs they are.

    Args:
        model: The model.
        shapes: The shapes, in the structure that its call takes.

    Returns:
        A structure of `tf.TensorSpec`s with an open batch: of float32 as far as the call takes it,
        and all of them if it takes no other types either.
    """
    import tensorflow as tf

    def specs(types: Sequence[str]) -> Any:
        left = iter(types)
        return tree.map_shape_structure(lambda s: tf.TensorSpec((None, *s[1:]), next(left)), shapes)

    def fit(types: Sequence[str]) -> bool:
        call = tf.function(lambda x: model(x, training=False), autograph=False)
        try:
            call.get_concrete_function(specs(types))
        except Exception:  # noqa: BLE001 — a user's code may raise anything for a wrong type
            return False
        return True

    count = len(tree.flatten(tree.map_shape_structure(len, shapes)))
    floats = ["float32"] * count
    others = itertools.product(("int32", "float32", "bool"), repeat=count)
    given = itertools.chain([floats], itertools.islice(others, _TRIALS))
    types = list(next((each for each in given if fit(each)), floats)) if model.built else floats
    for place in range(count):
        fewer = [*types[:place], "float32", *types[place + 1 :]]
        if fewer != types and fit(fewer):
            types = fewer
    return specs(types)


def _plain(given: Any) -> Any:
    """Return an `input_shape` with its sizes as Python integers."""
    if isinstance(given, dict):
        return {key: _plain(part) for key, part in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(_plain(part) for part in given)
    return given if given is None else int(given)


def takes(graph: Graph) -> ModelInputs:
    """Return the description of a graph's inputs, for reading data."""
    refs = tree.flatten(graph.inputs)
    values = [graph.values[ref.index] for ref in refs]
    layers = zip(graph.input_layers, values, strict=True)
    inputs = tuple(OneInput(layer.name, value.shape, value.dtype) for layer, value in layers)
    places = {ref: place for place, ref in enumerate(refs)}
    return ModelInputs(inputs, tree.map_structure(places.__getitem__, graph.inputs))


def flat_inputs(graph: Graph, inputs: Any) -> list[Any]:
    """Return the inputs of a batch as tensors, in the order of the graph's inputs."""
    values = [graph.values[ref.index] for ref in tree.flatten(graph.inputs)]
    return [
        keras.ops.convert_to_tensor(array, dtype=value.dtype)
        for array, value in zip(tree.flatten(inputs), values, strict=True)
    ]
