"""Turning the own weights of a custom layer, such as a class token, into tensors of a graph."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from tfprune.errors import ModelError
from tfprune.graph.tracing.weight import Weight, weight_of
from tfprune.keras_support.internals import (
    all_layers,
    direct_layers,
    is_autocast,
    own_attributes,
    own_trainable,
    own_variables,
)

WeightLayers = dict[int, Weight]
"""The layer that stands for each weight of a model, by the `id` of the variable."""

STAND_IN = "_is_stand_in"
"""The attribute that marks a stand-in."""

StandIns = dict[int, Any]
"""The stand-in of each layer that has one, by the `id` of the layer."""


def as_tensors(op: Any, anchor: Any, layers: WeightLayers, opened: StandIns) -> Any:
    """Return a stand-in for a layer whose own weights are tensors; use only its `call`.

    Floating weights become outputs of a layer `Weight` that shares the variable, others become
    constants. The layer is not changed, since another thread may be using it; the two share all
    other attributes.

    Args:
        op: A built layer.
        anchor: A symbolic tensor that the layer is called on.
        layers: The layers of weights seen so far, and then of these too.
        opened: By the `id` of layers whose weights are read by other layers, None; then the
            stand-ins of those in this layer, and of the layers that hold them.

    Raises:
        ModelError: A weight is not an attribute of the layer, nor in one that is a list or dict.
    """
    tensors = {
        id(variable): _tensor(op, name, variable, anchor, layers) for name, variable in _named(op)
    }
    for inner in direct_layers(op):
        if opened and any(id(one) in opened for one in all_layers(inner)):
            if opened.get(id(inner)) is None:
                opened[id(inner)] = as_tensors(inner, anchor, layers, opened)
            tensors[id(inner)] = opened[id(inner)]
    stand_in = object.__new__(type(op))
    vars(stand_in)[STAND_IN] = True
    vars(stand_in).update(vars(op))
    for key, value in own_attributes(op).items():
        vars(stand_in)[key] = _replaced(value, tensors)
    return stand_in


def _named(op: Any) -> Iterator[tuple[str, Any]]:
    """Yield the own weights of a layer, each with the name of its attribute."""
    names: dict[int, str] = {}
    for key, value in own_attributes(op).items():
        one = isinstance(value, keras.Variable)
        for place, variable in enumerate(_variables(value)):
            names.setdefault(id(variable), key if one else f"{key}_{place}")
    for variable in own_variables(op):
        if id(variable) not in names:
            raise ModelError(f"its weight {variable.name} is not an attribute of the layer")
        yield names[id(variable)].strip("_"), variable


def _variables(value: Any) -> Iterator[Any]:
    """Yield the variables in a list or dict, at any depth, or a variable itself."""
    if isinstance(value, keras.Variable):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _variables(part)


def _replaced(value: Any, others: Mapping[int, Any]) -> Any:
    """Return a weight or layer, or a list or dict of these, with others in place of some."""
    if id(value) in others:
        return others[id(value)]
    if not isinstance(value, Mapping | list | tuple):
        return value
    if isinstance(value, Mapping):
        parts: Any = {key: _replaced(part, others) for key, part in value.items()}
        same = all(parts[key] is part for key, part in value.items())
    else:
        parts = [_replaced(part, others) for part in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
    if same:
        return value
    return tuple(parts) if isinstance(value, tuple) else parts


def _tensor(op: Any, name: str, variable: Any, anchor: Any, layers: WeightLayers) -> Any:
    if not keras.backend.is_float_dtype(variable.dtype):
        return ops.convert_to_tensor(variable)
    if id(variable) not in layers:
        fixed = all(variable is not other for other in own_trainable(op))
        dtype = op.dtype_policy if is_autocast(variable) else variable.dtype
        layer = weight_of(variable, f"{op.name}_{name}", dtype, fixed)
        layer.trainable = op.trainable
        layers[id(variable)] = layer
    return layers[id(variable)](anchor)
