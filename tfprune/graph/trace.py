"""What a layer's `call` does, as a graph of its own, and which layers can be read that way."""

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
from tfprune.graph.symbolic_calls import through
from tfprune.graph.unknown_sizes import open_sizes
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
"""Held while layers have calls, names and weights that belong to a trace of them."""


def can_open(op: Any) -> bool:
    """Tell whether an operation is made of others."""
    if not isinstance(op, keras.Layer):
        return False
    if isinstance(op, keras.layers.Lambda):
        return _holds_nothing(op)
    return bool(direct_layers(op)) or _is_formula(op)


def stands_alone(op: Any) -> bool:
    """Tell whether an operation can be made again from its config."""
    if type(op).__module__.startswith("keras.") and not isinstance(op, keras.layers.Wrapper):
        return True
    try:
        type(op).from_config(op.get_config())
    except Exception:  # noqa: BLE001 — any code of the user's runs in here
        return False
    return True


def _holds_nothing(op: keras.layers.Lambda) -> bool:
    """Tell whether a Lambda's function is a formula of its input: no layer, weight or mask in it.

    A layer that is called from inside of a function belongs to no one, and cannot be followed.
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
    """Tell whether a layer of the user's can be written as operations, the same in training.

    One with weights is left alone, unless it could not be made again.
    """
    if type(op) is keras.layers.Activation:
        return True
    ours = type(op).__module__.startswith("keras.")
    if ours or "training" in inspect.signature(op.call).parameters:
        return False
    return not op.variables or not stands_alone(op)


@contextlib.contextmanager
def _unlike_names(layers: Sequence[Any]) -> Iterator[None]:
    """While it is entered, no two layers have one name: a graph of Keras asks for that.

    A decoder has two attentions in it, and each has a layer `query`.
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
    """While it is entered, random numbers cannot be drawn: they would be the same ever after.

    Layers of Keras that draw some do so in a scope of their own, where nothing is kept.
    """

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def draw(self: Any, ordered: bool = True) -> Any:
            if not in_stateless_scope():
                raise ModelError("it draws random numbers")
            return plain(self, ordered)

        return draw

    return replaced(SeedGenerator, "next", make)


@contextlib.contextmanager
def _noting_reads(layers: Sequence[Any]) -> Iterator[list[str]]:
    """While it is entered, note the weights of these layers that are read past their calls.

    A call on symbols reads them in a scope of its own.
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
    """What a layer's `call` does to symbolic tensors: `function` goes from them to its outputs.

    Tracing adds nodes to the layers that are called; `forget` takes them off again, so that
    the user's model is left as it was. What is replaced in Keras meanwhile is so in this thread
    alone. Hold `ONE_AT_A_TIME` until `forget`, or another thread may trace the same layers.

    Args:
        op: A built layer or model.
        starts: The symbolic inputs that its call is made on, in a structure of any kind.
        args: The arguments of the call.
        kwargs: Those by name.
    """

    def __init__(self, op: Any, starts: Any, args: Any, kwargs: Any) -> None:
        layers, anchor = all_layers(op), tree.flatten(starts)[0]
        self._forget_calls = note_calls(layers)
        try:
            with open_sizes(), through(anchor):
                stand_in = as_tensors(op, anchor) if own_variables(op) else op
                with _no_draws(), _noting_reads(layers) as self.reads:
                    outputs = stand_in.call(*args, **kwargs)
            with _unlike_names(layers):
                self.function = keras.Function(starts, outputs)
            self.reads += self._in_arguments(layers)
        except Exception:
            self.forget()
            raise

    def forget(self) -> None:
        """Take the nodes of the trace off the layers."""
        self._forget_calls()

    def _in_arguments(self, layers: Sequence[Any]) -> Iterator[str]:
        """The weights of these layers that an operation was given as they are."""
        owner = {id(weight): layer for layer in layers for weight in own_trainable(layer)}
        for operation in self.function.operations:
            for node in calls_of(operation):
                for leaf in tree.flatten((node.arguments.args, node.arguments.kwargs)):
                    if id(leaf) in owner:
                        yield f"{owner[id(leaf)].name}.{leaf.name}"
