"""Tracing a layer's `call` into a graph, and which layers can be traced."""

import ast
import contextlib
import inspect
import textwrap
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import tree
from keras.random import SeedGenerator

from tfprune.errors import ModelError
from tfprune.graph.tracing.masks import implicit_masks, masks_after
from tfprune.graph.tracing.open_size import Size
from tfprune.graph.tracing.own_weights import StandIns, WeightLayers, as_tensors
from tfprune.graph.tracing.symbolic_calls import as_symbol, calling_through, no_backend
from tfprune.graph.tracing.unknown_sizes import open_sizes
from tfprune.keras_support.internals import (
    KerasVariable,
    all_layers,
    direct_layers,
    in_stateless_scope,
    nodes_in_order,
    note_calls,
    own_trainable,
    own_variables,
)
from tfprune.keras_support.models import from_config
from tfprune.keras_support.thread_replacements import replaced

ONE_AT_A_TIME = threading.RLock()
"""Held while a trace changes the calls, names and weights of layers."""


def can_trace(op: Any) -> bool:
    """Return whether an operation consists of other operations."""
    if not isinstance(op, keras.Layer):
        return False
    if isinstance(op, keras.layers.Lambda):
        return _is_pure_lambda(op)
    return bool(direct_layers(op)) or _is_formula(op)


def can_be_rebuilt(op: Any) -> bool:
    """Return whether an operation can be rebuilt from its config."""
    if type(op).__module__.startswith("keras.") and not isinstance(op, keras.layers.Wrapper):
        return True
    try:
        from_config(op, op.get_config())
    except Exception:  # noqa: BLE001 — user code may raise anything
        return False
    return True


def why_not_part(call: Any) -> str | None:
    """Return why a call found inside a layer cannot be part of the graph, or None."""
    if not can_be_rebuilt(call.op):
        return f"{call.op.name} in it cannot be made from its config"
    for leaf in tree.flatten((call.args, call.kwargs)):
        parts = (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, slice) else (leaf,)
        if any(isinstance(part, Size) for part in parts):
            return f"{call.op.name} in it uses an open size"
    return None


def _is_pure_lambda(op: keras.layers.Lambda) -> bool:
    """Return whether a Lambda's function uses no layer, weight or mask.

    A layer that is called inside a function has no owner and cannot be traced.
    """
    if type(op) is not keras.layers.Lambda or op.mask or not inspect.isroutine(op.function):
        return False
    if {"mask", "training"} & set(inspect.signature(op.function).parameters):
        return False
    stack, seen = [op.function, *tree.flatten(op.arguments)], []
    while stack:
        here = stack.pop()
        if isinstance(here, keras.Layer | keras.Variable):
            return False
        if inspect.ismethod(here):
            stack += [here.__self__, here.__func__]
        elif inspect.isfunction(here) and here not in seen and _is_own(here):
            seen.append(here)
            used = inspect.getclosurevars(here)
            stack += tree.flatten([*used.nonlocals.values(), *used.globals.values()])
    return True


def _is_own(function: Any) -> bool:
    return not (function.__module__ or "").startswith(("keras.", "tensorflow."))


def _is_formula(op: Any) -> bool:
    """Return whether a user's layer without sublayers can be replaced by operations."""
    if type(op) is keras.layers.Activation:
        return True
    return not type(op).__module__.startswith("keras.") and op.built


@contextlib.contextmanager
def _unique_names(layers: Sequence[Any]) -> Iterator[None]:
    """Give all layers different names while entered, as a Keras graph requires.

    For example, a decoder has two attentions, each with a layer `query`.
    """
    names = [layer.name for layer in layers]
    try:
        for number, layer in enumerate(layers):
            layer.name = f"{layer.name}_{number}"
        yield
    finally:
        for layer, name in zip(layers, names, strict=True):
            layer.name = name


def _no_draws() -> contextlib.AbstractContextManager[None]:
    """Forbid drawing random numbers while entered: the graph would repeat the same numbers."""
    return _forbidden(SeedGenerator, "next", "it draws random numbers")


def _no_assignments() -> contextlib.AbstractContextManager[None]:
    """Forbid assigning weights while entered: it would happen now, and never in the graph."""
    return _forbidden(KerasVariable, "assign", "it assigns its weights when it is called")


def _forbidden(kind: type, name: str, why: str) -> contextlib.AbstractContextManager[None]:
    """Raise on calls of a method while entered, but for layers of Keras.

    They make such calls in a stateless scope, which is allowed.
    """

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not in_stateless_scope():
                raise ModelError(why)
            return plain(self, *args, **kwargs)

        return call

    return replaced(kind, name, make)


@contextlib.contextmanager
def _recorded_reads(owners: Mapping[int, Any]) -> Iterator[list[Any]]:
    """Record the weights with these `id`s that are read outside their layers while entered.

    A symbolic call reads weights in a stateless scope, which is not recorded.
    """
    read: list[Any] = []

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def value(self: Any) -> Any:
            if id(self) in owners and not in_stateless_scope():
                read.append(self)
            return plain(self)

        return value

    with replaced(KerasVariable, "value", make):
        yield read


class Trace:
    """The `call` of a layer, traced: `function` maps symbolic inputs to its outputs.

    `outputs` are its outputs in order, with None where the call returns None, and `masks` the masks
    that Keras would attach to them, if it was asked for those. A call that cannot be traced is
    tried again without the functions of the backend and the layers' own output specs.

    Tracing adds nodes to the layers that are called; `forget` removes them, so that the user's
    model is unchanged. Functions of Keras are replaced in this thread only. Hold `ONE_AT_A_TIME`
    until `forget`, or another thread may trace the same layers.

    Attributes:
        function: The traced function.
        reads: The weights that were read outside the call of their layer, as constants, each with
            that layer.

    Args:
        op: A built layer or model.
        starts: The symbolic inputs of the call, in any structure.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        weights: The layers of weights seen so far, and then of this call too.
        opened: The `id`s of layers whose weights are read by others: their calls are traced too.
        masked: Whether the call takes and gives the masks that Keras attaches to tensors.
    """

    def __init__(
        self,
        op: Any,
        starts: Any,
        args: Any,
        kwargs: Any,
        weights: WeightLayers | None = None,
        opened: Container[int] = (),
        masked: bool = False,
    ) -> None:
        layers, anchor = all_layers(op), tree.flatten(starts)[0]
        self._owners = {id(one): layer for layer in layers for one in own_trainable(layer)}
        self._forget_calls = note_calls(layers)
        self._weights = {} if weights is None else weights
        self._opened = opened
        self._masked = masked
        self.masks: list[Any] = []
        try:
            outputs, read = self._outputs(op, anchor, args, kwargs)
            self.outputs = tree.flatten(outputs)
            made = [one for one in (*self.outputs, *self.masks) if one is not None]
            with _unique_names([*layers, *self._weights.values()]):
                self.function = keras.Function(
                    starts, outputs if len(made) == len(self.outputs) else made
                )
            read += self._in_arguments()
            self.reads = {id(one): (self._owners[id(one)], one) for one in read}.values()
        except Exception:
            self.forget()
            raise

    def _outputs(self, op: Any, anchor: Any, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
        """Return the symbolic outputs of the call, None where it returns None, and what it read."""
        try:
            return self._call(op, anchor, args, kwargs)
        except Exception as error:
            self.forget()
            with contextlib.suppress(Exception), no_backend():
                return self._call(op, anchor, args, kwargs, every=True)
            raise error

    def _call(
        self, op: Any, anchor: Any, args: Any, kwargs: Any, *, every: bool = False
    ) -> tuple[Any, list[Any]]:
        inside = [layer for layer in all_layers(op) if id(layer) in self._opened]
        if self._masked:
            kwargs = {**kwargs, **implicit_masks(op, args, kwargs)}
        with open_sizes(), calling_through(anchor, every=every):
            with _no_draws(), _no_assignments(), _recorded_reads(self._owners) as read:
                stand_in = op
                if own_variables(op) or inside:
                    stand_ins: StandIns = {id(layer): None for layer in inside}
                    stand_in = as_tensors(op, anchor, self._weights, stand_ins)
                outputs = stand_in.call(*args, **kwargs)
                masks = masks_after(op, args, kwargs, outputs) if self._masked else []
            self.masks = [one if one is None else as_symbol(anchor, one) for one in masks]
            return tree.map_structure(
                lambda leaf: None if leaf is None else as_symbol(anchor, leaf), outputs
            ), read

    def reads_input(self, tensor: Any) -> bool:
        """Return whether a symbolic input is read, or given back as a mask."""
        nodes = nodes_in_order(self.function)
        read = [tree.flatten((node.arguments.args, node.arguments.kwargs)) for node in nodes]
        return any(leaf is tensor for leaves in (*read, self.masks) for leaf in leaves)

    def forget(self) -> None:
        """Remove the nodes of the trace from the layers."""
        self._forget_calls()

    def _in_arguments(self) -> Iterator[Any]:
        """Yield the weights of these layers that are direct arguments of an operation."""
        for node in nodes_in_order(self.function):
            for leaf in tree.flatten((node.arguments.args, node.arguments.kwargs)):
                if id(leaf) in self._owners:
                    yield leaf

    def steps(self) -> list[str]:
        """Return a description of each operation, the same for traces that compute the same."""
        places: dict[int, str] = {
            id(one): f"input {i}" for i, one in enumerate(self.function.inputs)
        }
        described = []
        for number, node in enumerate(nodes_in_order(self.function)):
            places.update((id(one), f"{number}.{i}") for i, one in enumerate(node.outputs))
            kwargs = {**node.arguments.kwargs, "training": None}
            given = tree.map_structure(
                lambda leaf: places.get(id(leaf), leaf), (node.arguments.args, kwargs)
            )
            op = node.operation
            # A layer is the same one in both traces; an operation is made anew in each.
            config = id(op) if isinstance(op, keras.Layer) else {**op.get_config(), "name": None}
            described.append(f"{type(op).__name__} {config} {given}")
        return described


def asks_training(op: Any) -> bool:
    """Return whether a layer's own call may compute something else in training.

    It does not if it only passes the argument on to other calls.
    """
    if "training" not in inspect.signature(op.call).parameters:
        return False
    try:
        code = ast.parse(textwrap.dedent(inspect.getsource(op.call)))
    except (OSError, SyntaxError):  # It was not read from a file.
        return True
    passed = [
        id(value)
        for node in ast.walk(code)
        if isinstance(node, ast.Call)
        for value in (*node.args, *(keyword.value for keyword in node.keywords))
    ]
    names = (node for node in ast.walk(code) if isinstance(node, ast.Name))
    return any(node.id == "training" and id(node) not in passed for node in names)


def same_in_training(op: Any, starts: list[Any], args: Any, kwargs: Any) -> bool:
    """Return whether a layer computes the same in training and in inference."""
    steps = []
    for training in (False, True):
        try:
            trace = Trace(op, starts, args, {**kwargs, "training": training})
        except Exception:  # noqa: BLE001 — user code may raise anything
            return False
        steps.append(trace.steps())
        trace.forget()
    return steps[0] == steps[1]
