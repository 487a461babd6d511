"""The flat model of any model: primitive layers and operations, nothing inside another."""

import warnings
from typing import Any

import keras

from tfprune.graph.graph import Graph
from tfprune.graph.read import Leaf, read
from tfprune.graph.rebuild import Edits, is_foreign, operations, read_weights, rebuild
from tfprune.keras_support.internals import Functional, is_keras_operation


def is_primitive(op: Any) -> bool:
    """Return whether an operation is one call in a flat model: a layer of Keras or tfprune."""
    if is_keras_operation(type(op)):
        return True
    if isinstance(op, keras.Model) or not isinstance(op, keras.Layer):
        return False
    if type(op) is keras.layers.Activation and is_foreign(op.activation):
        return False
    return type(op).__module__.startswith(("keras.", "tfprune."))


def flat_model(model: Any, *, input_shape: Any = None) -> Any:
    """Return a functional model of primitive layers and operations with the same weights.

    Nested, composite, custom and subclassed models are unrolled. A model that is flat already
    is returned as it is; a new one is not compiled.

    Args:
        model: A built Keras 3 model of any kind.
        input_shape: The shape of the input without the batch, for a subclassed model that was not
            called yet.

    Raises:
        ModelError: The model cannot be read.

    Warns:
        UserWarning: A layer computes something in training only, which is lost.
    """
    return _flattened(model, input_shape, lambda op: False)[0]


def _flattened(model: Any, input_shape: Any, whole: Leaf) -> tuple[Any, dict[str, str]]:
    """Return the flat model, and the former path of each of its operations that has a new one."""

    def is_leaf(op: Any) -> bool:
        return is_primitive(op) or whole(op)

    if type(model) is Functional and all(map(is_leaf, model.operations)):
        return model, {}
    graph = read(model, is_leaf, input_shape=input_shape)
    for note in graph.untrained:
        warnings.warn(note, stacklevel=5)
    weights = read_weights(graph)
    flat, ops = rebuild(graph, weights, Edits(), weights)
    if isinstance(model, keras.Sequential):
        flat = keras.Model(flat.inputs[0], flat.outputs[0], name=model.name)
    for op in operations(graph):
        if isinstance(op, keras.Layer):
            for old, new in zip(op.weights, ops[id(op)].weights, strict=True):
                new.constraint = old.constraint
    return flat, {ops[id(call.op)].name: call.path for call in reversed(graph.calls)}


def flat_graph(model: Any, *, input_shape: Any = None, whole: Leaf = lambda op: False) -> Graph:
    """Return the graph of the flat model of any model, in which all names are unique.

    Args:
        model: A built Keras 3 model of any kind.
        input_shape: As in `flat_model`.
        whole: Returns whether a layer of one's own is one call in it.

    Raises:
        ModelError: The model cannot be read.

    Warns:
        UserWarning: A layer computes something in training only, which is lost.
    """
    flat, paths = _flattened(model, input_shape, whole)
    graph = read(flat, lambda op: True)
    graph.paths = {call.op.name: paths.get(call.op.name, call.path) for call in graph.calls}
    return graph


class FlatEdits(Edits):
    """Edits of a flat model, whose inputs keep the names that they have in a file."""

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config that an operation, or a layer of an input, is made from."""
        named = isinstance(op, keras.layers.InputLayer)
        return {**config, "name": op.output.name} if named else config
