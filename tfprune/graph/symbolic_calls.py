"""Symbolic calls of layers that Keras itself cannot make."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.graph.own_weights import STAND_IN
from tfprune.graph.weight import Constant
from tfprune.keras_support.internals import direct_layers, in_stateless_scope
from tfprune.keras_support.thread_replacements import replaced


def accepted(layer: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of a layer that its `call` accepts."""
    parameters = inspect.signature(layer.call).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return dict(kwargs)
    return {name: value for name, value in kwargs.items() if name in parameters}


def calling_through(anchor: Any = None) -> contextlib.AbstractContextManager[None]:
    """Run the `call` of composite layers that cannot be called symbolically, while entered.

    Keras asks a layer for its output spec. Some layers answer for other arguments than they are
    called with, or return None besides a tensor; their `call` is run on the symbolic tensors
    instead. Other threads are not affected.

    A layer with weights that is called on a constant, such as an embedding of positions, is
    called on a tensor made from the symbolic `anchor`; otherwise its output would be a constant.
    Of a stand-in (see `tfprune.graph.own_weights`) only the `call` is run.
    """

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if anchor is not None and not in_stateless_scope() and self.weights:
                args, kwargs = _as_symbols(anchor, args, kwargs)
            try:
                if STAND_IN not in vars(self):
                    return plain(self, *args, **kwargs)
            except Exception:
                given = tree.flatten((args, kwargs))
                symbolic = any(isinstance(leaf, keras.KerasTensor) for leaf in given)
                if not (symbolic and self.built and direct_layers(self)):
                    raise
            args, kwargs = tree.map_structure(lambda leaf: _cast(self, leaf), (args, kwargs))
            return self.call(*args, **accepted(self, kwargs))

        return call

    return replaced(keras.Layer, "__call__", make)


def _as_symbols(anchor: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Make constants symbolic if there is no symbolic tensor among the arguments."""
    given = tree.flatten((args, kwargs))
    if any(isinstance(leaf, keras.KerasTensor) for leaf in given):
        return args, kwargs

    def symbol(leaf: Any) -> Any:
        if not (isinstance(leaf, np.ndarray) or keras.ops.is_tensor(leaf)):
            return leaf
        kind = keras.backend.standardize_dtype(leaf.dtype)
        return Constant(leaf, dtype=kind)(anchor)

    return tree.map_structure(symbol, (args, kwargs))


def _cast(layer: Any, leaf: Any) -> Any:
    """Cast a tensor as the layer's dtype policy does."""
    if not (isinstance(leaf, keras.KerasTensor) and layer.autocast):
        return leaf
    if "float" not in leaf.dtype or leaf.dtype == layer.compute_dtype:
        return leaf
    return keras.ops.cast(leaf, layer.compute_dtype)
