"""Symbolic calls of layers that Keras itself cannot make."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.graph.tracing.own_weights import STAND_IN
from tfprune.graph.tracing.weight import Constant
from tfprune.keras_support.internals import direct_layers, in_stateless_scope, own_variables
from tfprune.keras_support.thread_replacements import replaced


def accepted(layer: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of a layer that its `call` accepts."""
    parameters = inspect.signature(layer.call).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return dict(kwargs)
    return {name: value for name, value in kwargs.items() if name in parameters}


def calling_through(
    anchor: Any = None, *, every: bool = False
) -> contextlib.AbstractContextManager[None]:
    """Run the `call` of composite layers that cannot be called symbolically, while entered.

    Keras asks a layer for its output spec. Some layers answer for other arguments than they are
    called with, or return None besides a tensor; their `call` is run on the symbolic tensors
    instead. Other threads are not affected.

    A layer with weights that is called on a constant, such as an embedding of positions, is
    called on a tensor made from the symbolic `anchor`; otherwise its output would be a constant.
    Of a stand-in (see `tfprune.graph.tracing.own_weights`) only the `call` is run.

    Args:
        anchor: A symbolic tensor, or None.
        every: Never ask a layer outside Keras for its output spec, which may be wrong, unless it
            has weights of its own.
    """

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if anchor is not None and not in_stateless_scope() and self.weights:
                args, kwargs = _as_symbols(anchor, args, kwargs)
            given = tree.flatten((args, kwargs))
            symbolic = any(isinstance(leaf, keras.KerasTensor) for leaf in given)
            through = STAND_IN in vars(self) or (every and symbolic and _is_simple(self))
            if not through:
                try:
                    return plain(self, *args, **kwargs)
                except Exception:
                    if not (symbolic and self.built and direct_layers(self)):
                        raise
            args, kwargs = tree.map_structure(lambda leaf: _cast(self, leaf), (args, kwargs))
            return self.call(*args, **accepted(self, kwargs))

        return call

    return replaced(keras.Layer, "__call__", make)


def _is_simple(layer: Any) -> bool:
    """Return whether the `call` of a layer is all that its call does, for tensors."""
    ours = type(layer).__module__.startswith("keras.")
    return layer.built and not ours and not own_variables(layer)


def _as_symbols(anchor: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Make constants symbolic if there is no symbolic tensor among the arguments."""
    given = tree.flatten((args, kwargs))
    if any(isinstance(leaf, keras.KerasTensor) for leaf in given):
        return args, kwargs

    def symbol(leaf: Any) -> Any:
        constant = isinstance(leaf, np.ndarray) or keras.ops.is_tensor(leaf)
        return as_symbol(anchor, leaf) if constant else leaf

    return tree.map_structure(symbol, (args, kwargs))


def as_symbol(anchor: Any, constant: Any) -> Any:
    """Return a constant as the output of a layer that is called on a symbolic anchor."""
    if isinstance(constant, keras.KerasTensor):
        return constant
    constant = keras.ops.convert_to_tensor(constant)
    return Constant(constant, dtype=keras.backend.standardize_dtype(constant.dtype))(anchor)


@contextlib.contextmanager
def no_backend() -> Iterator[None]:
    """Answer code that asks for the backend with one that it has no functions of, while entered.

    Such code calls functions of TensorFlow, which symbolic tensors cannot take; on a backend that
    it does not know it calls `keras.ops`, and may multiply booleans, which TensorFlow cannot. Keras
    itself and other threads are not affected.
    """

    def backend(plain: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: "numpy"

    def multiply(plain: Callable[..., Any]) -> Callable[..., Any]:
        def product(a: Any, b: Any) -> Any:
            kinds = {getattr(one, "dtype", None) for one in (a, b)}
            return keras.ops.logical_and(a, b) if kinds == {"bool"} else plain(a, b)

        return product

    with contextlib.ExitStack() as entered:
        for owner, name, make in (
            (keras.config, "backend", backend),
            (keras.backend, "backend", backend),
            (keras.ops, "multiply", multiply),
            (keras.KerasTensor, "__mul__", multiply),
        ):
            entered.enter_context(replaced(owner, name, make))
        yield


def _cast(layer: Any, leaf: Any) -> Any:
    """Cast a tensor as the layer's dtype policy does."""
    if not (isinstance(leaf, keras.KerasTensor) and layer.autocast):
        return leaf
    if "float" not in leaf.dtype or leaf.dtype == layer.compute_dtype:
        return leaf
    return keras.ops.cast(leaf, layer.compute_dtype)
