"""Rebuilding a model from its graph: the same operations, with sliced weights."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from tfprune.errors import ModelError, type_name
from tfprune.graph.read import Call, Graph, Ref
from tfprune.keras_support.cloning import from_config, settle
from tfprune.keras_support.internals import (
    all_layers,
    begin_with,
    maker_of,
    note_dense,
    output_shape_given,
    takes_training,
)
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import Keep
from tfprune.structure.ids.rule_registry import is_foreign
from tfprune.structure.ids.site import Site
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.weights import operations, sliced

Run = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]


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


def rebuild(
    cut: Cut, *, dtype: str | None = None, after: Mapping[int, Callable[[Any], Any]] | None = None
) -> Rebuilt:
    """Return an ordinary Keras model without what a cut removes, and its operations.

    Args:
        cut: What to remove.
        dtype: A dtype policy for every layer, instead of its own.
        after: By the `id` of a call, a function to apply to its output.

    Raises:
        ModelError: A layer cannot be made from its config, or an input is unused and Keras is too
            old for that.
    """
    found, keep, drop = cut.left, Keep(cut.kept_mask), cut.drop
    graph, flow = found.graph, found.flow
    names = _names(graph)
    ops: dict[int, Any] = {}
    for op in operations(graph):
        if id(op) in drop:
            continue
        site = flow.sites.get(id(op))
        ops[id(op)] = _remake(op, site, keep, names[id(op)], dtype)
    remade = [keras.layers.InputLayer.from_config(x.get_config()) for x in graph.input_layers]
    inputs = [layer.output for layer in remade]

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        change = flow.rewrites.get(id(call))
        if change is not None:
            args, kwargs = change(keep, args, kwargs)
        if id(call.op) in drop:
            return args[0]
        made = ops[id(call.op)](*args, **kwargs)
        tree.map_structure(lambda leaf: note_dense(leaf, *tree.flatten((args, kwargs))), made)
        return after[id(call)](made) if after and id(call) in after else made

    kept = sliced(found, cut.weights, keep)
    # In this scope variables are created without a value, so no initializer runs in vain. The
    # states of a stateful layer cannot be created in it.
    stateful = any(True for op in operations(graph) for _ in states_of(op))
    with contextlib.nullcontext() if stateful else keras.StatelessScope():
        if not after and _is_chain(found):
            layers = [ops[id(call.op)] for call in graph.calls if id(call.op) not in drop]
            model: Any = keras.Sequential([maker_of(inputs[0]), *layers])
            model.name = found.model.name
        else:
            outputs = execute(graph, inputs, run)
            by_ref = dict(zip(tree.flatten(graph.inputs), inputs, strict=True))
            shaped = tree.map_structure(lambda ref: by_ref[ref], graph.inputs)
            model = _functional(shaped, outputs, found.model.name)
        late = [
            load(op, kept[key], cut.weights[key])
            for key, op in ops.items()
            if isinstance(op, keras.Layer)
        ]
    for variable, array in itertools.chain.from_iterable(late):
        variable.assign(array)
    for op in operations(graph):
        if isinstance(op, keras.Layer) and id(op) in ops:
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


def _is_chain(found: Units) -> bool:
    """Return whether a model is a Sequential that calls each layer once, in a chain."""
    graph = found.graph
    if type(found.model) is not keras.Sequential:
        return False
    before = graph.inputs if isinstance(graph.inputs, Ref) else tree.flatten(graph.inputs)[0]
    seen = set()
    for call in graph.calls:
        plain = isinstance(call.op, keras.Layer) and call.args == (before,)
        if not plain or call.kwargs or id(call.op) in seen or len(call.outputs) != 1:
            return False
        if id(call) in found.flow.rewrites:
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


def _remake(op: Any, site: Site | None, keep: Keep, name: str, dtype: str | None) -> Any:
    if type(op) is keras.layers.Lambda:
        return keras.layers.Lambda(
            op.function,
            output_shape=output_shape_given(op),
            mask=op.mask,
            arguments=op.arguments,
            name=name,
            dtype=dtype or op.dtype_policy,
        )
    own = {key: function for key, function in _activations(op) if is_foreign(function)}
    try:
        config = {**_config(op, site, keep, name, dtype), **dict.fromkeys(own, "linear")}
        made = from_config(op, config)
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
    return made


def _cell(op: Any) -> Any:
    """Return the object with the activations of a layer: of a recurrent layer, its cell."""
    return op.cell if isinstance(op, keras.layers.RNN) and type(op) is not keras.layers.RNN else op


def _activations(op: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(op, keras.Layer):
        for key in ("activation", "recurrent_activation"):
            yield key, getattr(_cell(op), key, None)


def _config(op: Any, site: Site | None, keep: Keep, name: str, dtype: str | None) -> dict:
    """Return the config of an operation with the kept sizes."""
    config = _without_shapes(op.get_config())
    if "name" in config:
        config["name"] = name
    for path, change in site.edits.items() if site is not None else ():
        _set(config, path, change(keep))
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


def _set(config: Any, path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value
