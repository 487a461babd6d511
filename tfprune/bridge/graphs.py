"""A common view of the graphs of both generations of Keras: ends, calls, arguments."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from tfprune.bridge.layer_configs import Side
from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import (
    is_symbolic,
    mask_of,
    node_of,
    symbolic_inputs_of,
    symbolic_outputs_of,
)


def ends(model: Any) -> tuple[Any, Any]:
    """Return the structures of the inputs and the outputs of a graph."""
    return symbolic_inputs_of(model), symbolic_outputs_of(model)


def operation_of(node: Any) -> Any:
    """Return the layer or operation that a node is a call of."""
    return node.layer if hasattr(node, "layer") else node.operation


def is_function(operation: Any, side: Side) -> bool:
    """Return whether what a node calls is a function, not a layer."""
    if side.name == "keras":
        return not isinstance(operation, side.api.layers.Layer)
    return type(operation).__name__ in _FUNCTION_NODES


# The classes of tf_keras that represent a call of a TensorFlow function.
_FUNCTION_NODES = {
    "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty",
    "TensorFlowOpLayer",
}  # fmt: skip


def given_to(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and named arguments of a call."""
    if hasattr(node, "layer"):
        return tuple(node.call_args), dict(node.call_kwargs)
    return tuple(node.arguments.args), dict(node.arguments.kwargs)


def needed(outputs: Any, known: dict[int, Any], side: Side) -> list[Any]:
    """Return the nodes that the outputs depend on, in topological order."""
    order: list[Any] = []
    seen: set[int] = set()
    stack = [(tensor, False) for tensor in reversed(flatten(outputs))]
    while stack:
        tensor, ready = stack.pop()
        node = node_of(tensor)
        if node is None or id(tensor) in known or node.is_input:
            continue
        if ready:
            if id(node) not in seen:
                seen.add(id(node))
                order.append(node)
            continue
        if id(node) in seen:
            continue
        stack.append((tensor, True))
        given = given_to(node) if is_function(operation_of(node), side) else arguments(node, side)
        found = [t for t in flatten(list(given)) if is_symbolic(t)]
        stack += [(t, False) for t in reversed(found)]
    return order


def arguments(node: Any, side: Side) -> tuple[Any, dict[str, Any]]:
    """Return the first argument of a call and the others by name, without defaults."""
    operation = operation_of(node)
    args, kwargs = given_to(node)
    if side.name == "keras":
        # Keras 3 records the layer's default here, and overrides it in `fit` and `predict`;
        # tf_keras would always use it.
        kwargs.pop("training", None)
    names = [name for name in inspect.signature(operation.call).parameters if name != "self"]
    if not names or (not args and names[0] not in kwargs):
        raise ModelError(
            f"layer {operation.name!r} ({type_name(operation)}) is called without a first argument "
            "that its class names; its class may be missing here. Rebuild the model with it"
        )
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    first = given.pop(names[0])
    if type(operation).__name__ in _RECURRENT and isinstance(first, (list, tuple)):
        given["initial_state"] = list(first[1:])
        first = first[0]
    named = {names[0]: first, **given}
    return first, {
        name: value
        for name, value in given.items()
        if value is not None and not _is_implied_mask(name, value, named, names[0])
    }


_RECURRENT = {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D",
              "ConvLSTM3D"}  # fmt: skip


def _is_implied_mask(name: str, value: Any, given: dict[str, Any], first: str) -> bool:
    """Return whether a mask was found by Keras on the tensor, not given by the caller."""
    if name == "mask":
        owner = given[first]
    elif name.endswith("_mask") and name.removesuffix("_mask") in given:
        owner = given[name.removesuffix("_mask")]
    else:
        return False
    masks = [mask_of(tensor) for tensor in flatten(owner)]
    values = flatten(value)
    return len(masks) == len(values) and all(a is b for a, b in zip(masks, values, strict=True))


def dtype_of(tensor: Any) -> str:
    """Return the name of a tensor's type."""
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def layers_within(model: Any, side: Side) -> Iterator[Any]:
    """Yield all layers of a model and of nested models, including wrapped ones."""
    for layer in model.layers:
        if isinstance(layer, side.api.Model):
            yield from layers_within(layer, side)
        else:
            yield layer
            inner = getattr(layer, "layer", None)
            if inner is not None:
                yield from (
                    layers_within(inner, side) if isinstance(inner, side.api.Model) else [inner]
                )


def map_structure(function: Callable[[Any], Any], value: Any) -> Any:
    """Return lists, tuples and dicts with every leaf replaced."""
    if isinstance(value, dict):
        return {key: map_structure(function, item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map_structure(function, item) for item in value)
    if isinstance(value, list):
        return [map_structure(function, item) for item in value]
    return function(value)


def flatten(value: Any) -> list[Any]:
    """Return the leaves of lists, tuples and dicts; dicts in the order of their keys."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in flatten(value[key])]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flatten(item)]
    return [value]
