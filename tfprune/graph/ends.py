"""The ends of a functional model: tables that tokens are looked up in, and last layers."""

from collections.abc import Iterator
from typing import Any

import keras

from tfprune.keras_support.internals import (
    graph_inside,
    inputs_of_maker,
    maker_of,
    nodes_in_order,
    place_among_outputs,
)

_SHAPES = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity)


def tables_of_inputs(model: keras.Model) -> Iterator[tuple[int, Any]]:
    """Yield each Embedding that an input goes into directly, with the place of the input."""
    function = graph_inside(model) or model
    inputs = {id(tensor): place for place, tensor in enumerate(function.inputs)}
    for node in nodes_in_order(function):
        if isinstance(node.operation, keras.layers.Embedding):
            places = (inputs.get(id(tensor)) for tensor in node.input_tensors)
            yield from ((place, node.operation) for place in places if place is not None)


def last_layer(output: Any) -> Any:
    """Return the layer that computes an output; those that only change its shape are passed."""
    while True:
        layer = maker_of(output)
        if isinstance(layer, keras.Model):
            inside = getattr(layer, "outputs", None)
            if not inside:  # a subclassed model
                return layer
            output = inside[place_among_outputs(output)]
        elif isinstance(layer, _SHAPES):
            (output,) = inputs_of_maker(output)
        elif isinstance(layer, keras.layers.Activation) and not activation_of(layer):
            (output,) = inputs_of_maker(output)  # a cast to float32, for mixed precision
        else:
            return layer


def activation_of(layer: Any) -> str:
    """Return the name of the activation that a layer ends with; "" for none."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", "")
    return "" if name == "linear" else str(name)
