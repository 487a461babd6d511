"""Making an ordinary Keras model from a graph: the same operations, edited and called anew."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from tfprune.errors import ModelError, type_name
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.keras_support.internals import (
    all_layers,
    begin_with,
    maker_of,
    note_dense,
    output_shape_given,
    takes_training,
)
from tfprune.keras_support.models import config_of, from_config, settle

Weights = dict[int, list[np.ndarray]]
"""The arrays of each layer, under the `id` of the original layer."""

Run = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]


def operations(graph: Graph) -> list[Any]:
    """Return each operation once, in the order of its first call."""
    return list({id(call.op): call.op for call in graph.calls}.values())


def read_weights(graph: Graph) -> Weights:
    """Return read-only views of all weights of a graph, layer by layer."""
    return {
        id(op): [_view(variable) for variable in op.weights]
        for op in operations(graph)
        if isinstance(op, keras.Layer)
    }


def _view(variable: Any) -> np.ndarray:
    """Return a read-only view of a variable; TensorFlow does not change it on assignment."""
    array = np.asarray(variable.value.read_value())
    array.flags.writeable = False
    return array


def perform(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the output of an operation in inference."""
    if takes_training(op):
        place = list(inspect.signature(op.call).parameters).index("training")
        if len(args) <= place:
            kwargs = {**kwargs, "training": False}
    return op(*args, **kwargs)


def execute(graph: Graph, inputs: list[Any], run: Run) -> Any:
    """Run a graph on real or symbolic tensors; `run` returns the output of each call."""
    tensors: dict[int, Any] = {
        ref.index: tensor for ref, tensor in zip(tree.flatten(graph.inputs), inputs, strict=True)
    }

    def given(leaf: Any) -> Any:
        return tensors[leaf.index] if isinstance(leaf, Ref) else leaf

    for call in graph.calls:
        made = run(
            call, tree.map_structure(given, call.args), tree.map_structure(given, call.kwargs)
        )
        for ref, tensor in zip(call.outputs, tree.flatten(made), strict=True):
            tensors[ref.index] = tensor
    return tree.map_structure(lambda ref: tensors[ref.index], graph.outputs)


class Rebuilt(NamedTuple):
    """A rebuilt model, and its operations by the `id` of the original."""

    model: Any
    ops: dict[int, Any]


class Edits:
    """What a rebuilt model has otherwise than its graph; this class changes nothing.

    Args:
        dtype: A dtype policy for every layer, instead of its own.
    """

    def __init__(self, dtype: str | None = None) -> None:
        self.dtype = dtype

    def remake(self, op: Any, name: str) -> Any:
        """Return a new operation in the place of one of the graph.

        Raises:
            ModelError: It cannot be made from its config.
        """
        return _remake(op, self, name)

    def kind(self, op: Any) -> Any:
        """Return the class of the new operation."""
        return type(op)

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config that an operation, or a layer of an input, is made from."""
        return config

    def is_dropped(self, op: Any) -> bool:
        """Return whether an operation is replaced by the identity."""
        return False

    def is_called_as_is(self, call: Call) -> bool:
        """Return whether a call keeps its arguments and its output."""
        return True

    def call(self, call: Call, op: Any, args: Any, kwargs: Any) -> Any:
        """Return the output of a call of an operation of the rebuilt model."""
        return op(*args, **kwargs)

    def after(self, call: Call, made: Any) -> Any:
        """Return what is read in the place of the output of a call, also of a dropped one."""
        return made


def rebuild(graph: Graph, weights: Weights, edits: Edits, shared: Weights | None = None) -> Rebuilt:
    """Return an ordinary Keras model of a graph, and its operations.

    Args:
        graph: The calls.
        weights: The arrays of each layer, in the shapes that the edits give them. A layer that is
            not here keeps its own.
        edits: What differs from the graph.
        shared: Arrays that are used elsewhere and must be copied.

    Raises:
        ModelError: A layer cannot be made from its config, or an input is unused and Keras is too
            old for that.
    """
    names = _names(graph)
    kept = [op for op in operations(graph) if not edits.is_dropped(op)]
    ops = {id(op): edits.remake(op, names[id(op)]) for op in kept}
    configs = [edits.config(layer, layer.get_config()) for layer in graph.input_layers]
    remade = list(map(keras.layers.InputLayer.from_config, configs))
    inputs = [layer.output for layer in remade]

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if edits.is_dropped(call.op):
            return edits.after(call, args[0])
        made = edits.after(call, edits.call(call, ops[id(call.op)], args, kwargs))
        given = tree.flatten((args, kwargs))
        return tree.map_structure(lambda leaf: note_dense(leaf, *given), made)

    # In this scope variables are created without a value, so no initializer runs in vain. The
    # states of a stateful layer cannot be created in it.
    stateful = any(True for op in kept for _ in states_of(op))
    with contextlib.nullcontext() if stateful else keras.StatelessScope():
        if _is_chain(graph, edits):
            layers = [ops[id(call.op)] for call in graph.calls if id(call.op) in ops]
            model: Any = keras.Sequential([maker_of(inputs[0]), *layers])
            model.name = graph.model.name
        else:
            outputs = execute(graph, inputs, run)
            by_ref = dict(zip(tree.flatten(graph.inputs), inputs, strict=True))
            shaped = tree.map_structure(lambda ref: by_ref[ref], graph.inputs)
            model = _functional(shaped, outputs, graph.model.name)
        late = [
            load(op, weights[key], (shared or {}).get(key, ()))
            for key, op in ops.items()
            if key in weights and isinstance(op, keras.Layer)
        ]
    for variable, array in itertools.chain.from_iterable(late):
        variable.assign(array)
    for op in kept:
        if id(op) in weights and isinstance(ops[id(op)], keras.Layer):
            settle(ops[id(op)], op)
    return Rebuilt(model, ops)


def _functional(inputs: Any, outputs: Any, name: str) -> Any:
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:
        if "not connected" not in str(error):
            raise
        raise ModelError(
            f"model {name!r}: after the removal an input is not connected to an output, which "
            f"Keras {keras.__version__} does not allow; keep the branch that uses it (skip=), or "
            "upgrade Keras"
        ) from None


def states_of(op: Any) -> Iterator[Any]:
    """Yield the variables that hold the states of stateful layers."""
    if isinstance(op, keras.Layer):
        for layer in all_layers(op):
            if isinstance(layer, keras.layers.RNN) and layer.stateful:
                yield from tree.flatten(layer.states)


def load(
    layer: Any, arrays: list[np.ndarray], shared: Sequence[np.ndarray] = ()
) -> list[tuple[Any, np.ndarray]]:
    """Initialize a layer's variables with arrays.

    Args:
        layer: A built layer; built in the `keras.StatelessScope` that is entered, if one is.
        arrays: One for each of its weights.
        shared: Arrays that are used elsewhere and must be copied.

    Returns:
        The variables that already had a value, each with the array to assign.

    Raises:
        ModelError: The shapes differ; the message names the layer.
    """
    have = [tuple(weight.shape) for weight in layer.weights]
    want = [array.shape for array in arrays]
    if have != want:
        raise ModelError(f"layer {layer.name!r} was rebuilt with weights {have}, not {want}")
    # TensorFlow uses the memory of an array: without a copy, training one model changes the other.
    own = [array.copy() if any(array is other for other in shared) else array for array in arrays]
    late = []
    for variable, array in zip(layer.weights, own, strict=True):
        if not begin_with(variable, array):
            late.append((variable, array))
    return late


def _is_chain(graph: Graph, edits: Edits) -> bool:
    """Return whether a model is a Sequential that calls each layer once, in a chain."""
    if type(graph.model) is not keras.Sequential:
        return False
    before = graph.inputs if isinstance(graph.inputs, Ref) else tree.flatten(graph.inputs)[0]
    seen = set()
    for call in graph.calls:
        plain = isinstance(call.op, keras.Layer) and call.args == (before,)
        if not plain or call.kwargs or id(call.op) in seen or len(call.outputs) != 1:
            return False
        if not edits.is_called_as_is(call):
            return False
        seen.add(id(call.op))
        before = call.outputs[0]
    return True


def _names(graph: Graph) -> dict[int, str]:
    """Return a unique name for each operation: its own, or its path if the name is taken."""
    taken: set[str] = {layer.name for layer in graph.input_layers}
    names: dict[int, str] = {}
    for call in graph.calls:
        if id(call.op) in names:
            continue
        name = call.op.name
        if name in taken:
            name = call.path.replace("/", "_")
        base, number = name, 1
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        names[id(call.op)] = name
    return names


HOMES = ("keras.", "tensorflow.")


def is_foreign(function: Any) -> bool:
    """Return whether an activation is a function of neither Keras nor TensorFlow."""
    home = getattr(function, "__module__", "") or ""
    plain = callable(function) and not isinstance(function, keras.Layer | type)
    return plain and not home.startswith(HOMES)


def _remake(op: Any, edits: Edits, name: str) -> Any:
    if type(op) is keras.layers.Lambda:
        return keras.layers.Lambda(
            op.function,
            output_shape=output_shape_given(op),
            mask=op.mask,
            arguments=op.arguments,
            name=name,
            dtype=edits.dtype or op.dtype_policy,
        )
    own = {key: function for key, function in _activations(op) if is_foreign(function)}
    try:
        config = {**_config(op, edits, name), **dict.fromkeys(own, "linear")}
        made = from_config(op, config, edits.kind(op))
    except (TypeError, ValueError, NotImplementedError) as error:
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
        raise ModelError(
            f"layer {op.name!r} ({type_name(op)}) cannot be made from its config: {lines[0]}"
        ) from error
    for key, function in own.items():
        # A user's function may not be serializable in a config.
        setattr(_cell(made), key, function)
    if isinstance(op, keras.Layer):
        made.trainable = op.trainable
    made.name = name  # Keras 3.10 renames operations that are not layers.
    return made


def _cell(op: Any) -> Any:
    """Return the object with the activations of a layer: of a recurrent layer, its cell."""
    return op.cell if isinstance(op, keras.layers.RNN) and type(op) is not keras.layers.RNN else op


def _activations(op: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(op, keras.Layer):
        for key in ("activation", "recurrent_activation"):
            yield key, getattr(_cell(op), key, None)


def _config(op: Any, edits: Edits, name: str) -> dict[str, Any]:
    """Return the config of an operation in the rebuilt model."""
    config = _without_shapes(config_of(op))
    if "name" in config:
        config["name"] = name
    config, dtype = edits.config(op, config), edits.dtype
    if dtype is not None and "dtype" in config:
        config["dtype"] = dtype
        if isinstance(config.get("layer"), dict):
            config["layer"] = _with_dtype(config["layer"], dtype)
    return config


def _without_shapes(config: Any) -> Any:
    """Return a config without the recorded build shapes of inner layers."""
    if isinstance(config, dict):
        return {
            key: _without_shapes(value)
            for key, value in config.items()
            if not (key == "build_config" and "class_name" in config)
        }
    return [_without_shapes(item) for item in config] if isinstance(config, list) else config


def _with_dtype(serialized: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    inner = dict(serialized)
    inner["config"] = {**inner["config"], "dtype": dtype}
    return inner
