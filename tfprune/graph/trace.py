"""Tracing a layer's `call` into a graph, and which layers can be traced."""

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import tree
from keras.random import SeedGenerator

from tfprune.errors import ModelError
from tfprune.graph.own_weights import as_tensors
from tfprune.graph.symbolic_calls import as_symbol, calling_through, no_backend
from tfprune.graph.unknown_sizes import open_sizes
from tfprune.keras_support.cloning import from_config
from tfprune.keras_support.internals import (
    KerasVariable,
    all_layers,
    calls_of,
    direct_layers,
    in_stateless_scope,
    note_calls,
    own_trainable,
    own_variables,
)
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
    """Return whether a user's layer can be replaced by operations, also in training.

    A layer with weights is not replaced, unless it cannot be rebuilt.
    """
    if type(op) is keras.layers.Activation:
        return True
    ours = type(op).__module__.startswith("keras.")
    if ours or "training" in inspect.signature(op.call).parameters:
        return False
    return not op.variables or not can_be_rebuilt(op)


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
    """Forbid drawing random numbers while entered: the graph would repeat the same numbers.

    Keras layers that draw some do so in a stateless scope, which is allowed.
    """

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def draw(self: Any, ordered: bool = True) -> Any:
            if not in_stateless_scope():
                raise ModelError("it draws random numbers")
            return plain(self, ordered)

        return draw

    return replaced(SeedGenerator, "next", make)


@contextlib.contextmanager
def _recorded_reads(layers: Sequence[Any]) -> Iterator[list[str]]:
    """Record the weights of these layers that are read outside their calls while entered.

    A symbolic call reads weights in a stateless scope, which is not recorded.
    """
    owner = {id(weight): layer for layer in layers for weight in own_trainable(layer)}
    read: list[str] = []

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def value(self: Any) -> Any:
            if id(self) in owner and not in_stateless_scope():
                name = f"{owner[id(self)].name}.{self.name}"
                read.extend([] if name in read else [name])
            return plain(self)

        return value

    with replaced(KerasVariable, "value", make):
        yield read


class Trace:
    """The `call` of a layer, traced: `function` maps symbolic inputs to its outputs.

    `outputs` are its outputs in order, with None where the call returns None. A call that cannot be
    traced is tried again without the functions of the backend and the layers' own output specs.

    Tracing adds nodes to the layers that are called; `forget` removes them, so that the user's
    model is unchanged. Functions of Keras are replaced in this thread only. Hold `ONE_AT_A_TIME`
    until `forget`, or another thread may trace the same layers.

    Args:
        op: A built layer or model.
        starts: The symbolic inputs of the call, in any structure.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
    """

    def __init__(self, op: Any, starts: Any, args: Any, kwargs: Any) -> None:
        layers, anchor = all_layers(op), tree.flatten(starts)[0]
        self._forget_calls = note_calls(layers)
        try:
            outputs = self._outputs(op, anchor, args, kwargs)
            self.outputs = tree.flatten(outputs)
            made = [output for output in self.outputs if output is not None]
            with _unique_names(layers):
                self.function = keras.Function(
                    starts, outputs if len(made) == len(self.outputs) else made
                )
            self.reads += self._in_arguments(layers)
        except Exception:
            self.forget()
            raise

    def _outputs(self, op: Any, anchor: Any, args: Any, kwargs: Any) -> Any:
        """Return the symbolic outputs of the call, None where it returns None."""
        try:
            return self._call(op, anchor, args, kwargs)
        except Exception as error:
            self.forget()
            with contextlib.suppress(Exception), no_backend():
                return self._call(op, anchor, args, kwargs, every=True)
            raise error

    def _call(self, op: Any, anchor: Any, args: Any, kwargs: Any, *, every: bool = False) -> Any:
        layers = all_layers(op)
        with open_sizes(), calling_through(anchor, every=every):
            stand_in = as_tensors(op, anchor) if own_variables(op) else op
            with _no_draws(), _recorded_reads(layers) as self.reads:
                outputs = stand_in.call(*args, **kwargs)
            return tree.map_structure(
                lambda leaf: None if leaf is None else as_symbol(anchor, leaf), outputs
            )

    def forget(self) -> None:
        """Remove the nodes of the trace from the layers."""
        self._forget_calls()

    def _in_arguments(self, layers: Sequence[Any]) -> Iterator[str]:
        """Yield the weights of these layers that are direct arguments of an operation."""
        owner = {id(weight): layer for layer in layers for weight in own_trainable(layer)}
        for operation in self.function.operations:
            for node in calls_of(operation):
                for leaf in tree.flatten((node.arguments.args, node.arguments.kwargs)):
                    if id(leaf) in owner:
                        yield f"{owner[id(leaf)].name}.{leaf.name}"
