"""The graphs of both generations of Keras, read alike: calls with the arguments that were given.

Of a Keras 3 model this is the graph that all verbs read; what has to be known of the nodes of
tf_keras is in this module only.
"""

import inspect
from collections.abc import Callable
from typing import Any

from tfprune.bridge.layer_configs import Side
from tfprune.errors import ModelError, type_name
from tfprune.graph.graph import Call, Graph, Ref, Value, needed
from tfprune.graph.read import read_function
from tfprune.keras_support.internals import (
    maker_of,
    mask_of,
    nodes_in_order,
    symbolic_inputs_of,
    symbolic_outputs_of,
)


def graph_of(model: Any, side: Side) -> Graph:
    """Return the calls that the outputs of a functional or sequential model depend on.

    Models in it stay whole. A call of a layer has its first argument and the others by name,
    without defaults and without masks that Keras found on the tensors.

    Raises:
        ModelError: A layer is called without a first argument.
    """
    keras3 = side.name == "keras"
    graph = read_function(model, lambda op: True) if keras3 else _of_tf_keras(model)
    for call in graph.calls:
        if not is_operation(call.op, side):
            call.args, call.kwargs = _given(call, graph, side)
    graph.calls = needed(graph.calls, flatten(graph.outputs))
    return graph


def _of_tf_keras(model: Any) -> Graph:
    refs: dict[int, Ref] = {}
    symbols: list[Any] = []

    def add(tensor: Any) -> Ref:
        symbols.append(tensor)
        return refs.setdefault(id(tensor), Ref(len(symbols) - 1))

    def known(leaf: Any) -> Any:
        return refs.get(id(leaf), leaf)

    layers = [maker_of(tensor) for tensor in model.inputs if add(tensor)]
    calls = []
    for node in nodes_in_order(model):
        if not node.is_input:
            args, kwargs = map_structure(known, (tuple(node.call_args), dict(node.call_kwargs)))
            outputs = tuple(map(add, flatten(node.outputs)))
            calls.append(Call(node.layer, args, kwargs, outputs, node.layer.name))
    inputs = map_structure(known, symbolic_inputs_of(model))
    outputs = map_structure(known, symbolic_outputs_of(model))
    values = [Value(tuple(tensor.shape), tensor.dtype.name) for tensor in symbols]
    masks = {refs[id(one)]: known(mask_of(one)) for one in symbols}
    return Graph(model, inputs, outputs, layers, values, calls, masks=masks)


def is_operation(operation: Any, side: Side) -> bool:
    """Return whether what a call runs is a function of TensorFlow or Keras, not a layer."""
    if side.name == "keras":
        return not isinstance(operation, side.api.layers.Layer)
    return type(operation).__name__ in _FUNCTION_NODES


# The classes of tf_keras that represent a call of a TensorFlow function.
_FUNCTION_NODES = {
    "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty",
    "TensorFlowOpLayer",
}  # fmt: skip


def _given(call: Call, graph: Graph, side: Side) -> tuple[tuple[Any], dict[str, Any]]:
    """Return the first argument of a call and the others by name, without defaults."""
    operation, kwargs = call.op, dict(call.kwargs)
    if side.name == "keras":
        # Keras 3 records the layer's default here, and overrides it in `fit` and `predict`;
        # tf_keras would always use it.
        kwargs.pop("training", None)
    names = [name for name in inspect.signature(operation.call).parameters if name != "self"]
    if not names or (not call.args and names[0] not in kwargs):
        raise ModelError(
            f"layer {operation.name!r} ({type_name(operation)}) is called without a first argument "
            "that its class names; its class may be missing here. Rebuild the model with it"
        )
    given = {**dict(zip(names, call.args, strict=False)), **kwargs}
    first = given.pop(names[0])
    if type(operation).__name__ in _RECURRENT and isinstance(first, (list, tuple)):
        given["initial_state"] = list(first[1:])
        first = first[0]
    named = {names[0]: first, **given}
    return (first,), {
        name: value
        for name, value in given.items()
        if value is not None and not _is_implied_mask(name, value, named, names[0], graph)
    }


_RECURRENT = {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D",
              "ConvLSTM3D"}  # fmt: skip


def _is_implied_mask(
    name: str, value: Any, given: dict[str, Any], first: str, graph: Graph
) -> bool:
    """Return whether a mask was found by Keras on the tensor, not given by the caller."""
    if name == "mask":
        owner = given[first]
    elif name.endswith("_mask") and name.removesuffix("_mask") in given:
        owner = given[name.removesuffix("_mask")]
    else:
        return False
    masks = [graph.masks.get(one) if isinstance(one, Ref) else None for one in flatten(owner)]
    values = flatten(value)
    return len(masks) == len(values) and all(a is b for a, b in zip(masks, values, strict=True))


def name_maker(tensor: Any, rename: Callable[[str], str]) -> None:
    """Rename the operation that made a symbolic tensor."""
    maker = maker_of(tensor)
    maker.name = rename(maker.name)


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
