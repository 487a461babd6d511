"""Axes of unknown size while a layer's `call` is traced.

`keras.ops.shape` of a symbolic tensor returns None for such an axis, and code that computes with
it (a causal mask, a reshape into heads) fails. While `open_sizes()` is entered it returns a `Size`
instead, and what takes sizes accepts it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.graph.tracing.open_size import Size
from tfprune.graph.tracing.sized_ops import SIZED, is_open, item, value_of
from tfprune.keras_support.internals import note_dense
from tfprune.keras_support.thread_replacements import replaced


def _with_values(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operation that takes the numbers of open sizes as tensors."""

    def operation(*args: Any, **kwargs: Any) -> Any:
        if is_open((args, kwargs)):
            args, kwargs = tree.map_structure(value_of, (args, kwargs))
        return note_dense(plain(*args, **kwargs), *args, *kwargs.values())

    return operation


def _equal(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `==` of symbolic tensors by their numbers, as of tensors with data."""

    def equal(x: Any, other: Any) -> Any:
        number = isinstance(other, keras.KerasTensor | Size | np.ndarray | np.number | int | float)
        return ops.equal(x, other) if number or ops.is_tensor(other) else plain(x, other)

    return equal


# fmt: off
_OF_VALUES = (
    "abs", "add", "cast", "clip", "convert_to_tensor", "divide", "equal", "expand_dims", "floor",
    "floor_divide", "greater", "greater_equal", "less", "less_equal", "log", "maximum", "minimum",
    "mod", "multiply", "not_equal", "power", "sqrt", "rsqrt", "square", "stack", "subtract",
    "true_divide", "where",
)
_OF_TENSORS = (
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__",
    "__rtruediv__", "__floordiv__", "__mod__", "__lt__", "__le__", "__gt__", "__ge__",
)
# fmt: on


def _instead(ours: Callable[..., Any]) -> Callable[..., Callable[..., Any]]:
    return lambda plain: ours


@contextlib.contextmanager
def open_sizes() -> Iterator[None]:
    """Make `keras.ops` and symbolic tensors accept and return unknown sizes while entered.

    Only the public namespace `keras.ops` changes, which layers outside Keras use; Keras's own
    layers and other threads are not affected.

    Example:
        >>> import keras
        >>> x = keras.Input((None, 4))
        >>> with open_sizes():
        ...     keras.ops.arange(keras.ops.shape(x)[1]).shape
        (None,)
    """
    with contextlib.ExitStack() as entered:
        for name, function in SIZED.items():
            entered.enter_context(replaced(ops, name, _instead(function)))
        for name in _OF_VALUES:
            entered.enter_context(replaced(ops, name, _with_values))
        for name in _OF_TENSORS:
            entered.enter_context(replaced(keras.KerasTensor, name, _with_values))
        entered.enter_context(replaced(keras.KerasTensor, "__getitem__", item))
        entered.enter_context(replaced(keras.KerasTensor, "__eq__", _equal))
        yield
