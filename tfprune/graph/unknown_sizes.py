"""Axes of unknown size while a layer's `call` is traced.

`keras.ops.shape` of a symbolic tensor returns None for such an axis, and code that computes with
it (a causal mask, a reshape into heads) fails. While `open_sizes()` is entered it returns a `Size`
instead, and the operations of `keras.ops` that take sizes accept it: they compute the actual size
from the tensor at run time. No length is fixed.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from tfprune.errors import ModelError
from tfprune.keras_support.thread_replacements import replaced


class OpenSizeError(ModelError, TypeError):
    """Raised if a layer needs a number and the size of the axis is unknown."""


class Size:
    """The unknown size of an axis of a symbolic tensor."""

    def __init__(self, tensor: Any, axis: int, *, plain: bool = True) -> None:
        self.tensor = tensor
        self.axis = axis
        self.plain = plain

    def _changed(self) -> "Size":
        return Size(self.tensor, self.axis, plain=False)

    def __add__(self, other: object) -> "Size":
        return self if other == 0 else self._changed()

    def __sub__(self, other: object) -> "Size":
        return self if other == 0 else self._changed()

    def __mul__(self, other: object) -> "Size":
        return self if other == 1 else self._changed()

    def __floordiv__(self, other: object) -> "Size":
        return self if other == 1 else self._changed()

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: object) -> "Size":
        return self._changed()

    def _is(self, other: object) -> bool:
        return (
            isinstance(other, Size)
            and self.plain
            and other.plain
            and (self.tensor is other.tensor and self.axis == other.axis)
        )

    def __eq__(self, other: object) -> bool:
        if self._is(other):
            return True
        raise OpenSizeError(f"the size of axis {self.axis} is open and cannot be compared")

    __lt__ = __gt__ = __le__ = __ge__ = __eq__

    def __hash__(self) -> int:
        return hash((id(self.tensor), self.axis))

    def __repr__(self) -> str:
        return f"Size of axis {self.axis} of {tuple(self.tensor.shape)}"

    def zeros(self, dtype: str) -> Any:
        """Return a vector of zeros with the length of the axis."""
        if not self.plain:
            raise OpenSizeError(
                f"a number is needed that depends on axis {self.axis}, whose size is open"
            )
        others = tuple(axis for axis in range(len(self.tensor.shape)) if axis != self.axis)
        line = _PLAIN["zeros_like"](self.tensor, dtype="int32")
        return ops.cast(ops.sum(line, axis=others) if others else line, dtype)


def _open(values: object) -> bool:
    return isinstance(values, Size) or (
        isinstance(values, list | tuple) and any(isinstance(value, Size) for value in values)
    )


def _shape(x: Any) -> tuple:
    shape = _PLAIN["shape"](x)
    if not isinstance(x, keras.KerasTensor):
        return shape
    return tuple(Size(x, axis) if size is None else size for axis, size in enumerate(shape))


def _reshape(x: Any, newshape: Any) -> Any:
    if not _open(newshape):
        return _PLAIN["reshape"](x, newshape)
    target = [newshape] if isinstance(newshape, Size) else list(newshape)
    first = target[0]
    keeps_batch = isinstance(first, Size) and first.plain and first.axis == 0 and x.shape[0] is None
    # An open axis from a tensor without one was split off the first axis, which is no batch.
    parted = _open(target[1:]) and None not in x.shape[1:]
    if keeps_batch and not parted:
        rest = _solved(list(x.shape[1:]), target[1:])
        if rest is not None:
            return keras.layers.Reshape(rest)(x)
    sizes = [-1 if isinstance(size, Size) else size for size in target]
    if sizes.count(-1) != 1:
        raise OpenSizeError(f"a tensor of shape {tuple(x.shape)} is reshaped to several open sizes")
    return _PLAIN["reshape"](x, tuple(sizes))


def _solved(shape: list[int | None], target: list[Any]) -> tuple[int, ...] | None:
    """Return a target without the batch and with at most one -1, or None."""
    sizes = [-1 if isinstance(size, Size) else size for size in target]
    if sizes.count(-1) <= 1:
        return tuple(sizes)
    opened = [size for size in target if isinstance(size, Size) and size.plain]
    if len(opened) == 1 and sizes.count(-1) == 2 and shape.count(None) == 1:
        known = math.prod(size for size in sizes if size != -1)
        left = math.prod(size for size in shape if size is not None) // known
        return tuple(
            -1 if isinstance(given, Size) else left if size == -1 else size
            for given, size in zip(target, sizes, strict=True)
        )
    return None


def _arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    if not (_open(start) or _open(stop)):
        return _PLAIN["arange"](start, stop, 1 if step is None else step, dtype)
    size = start if stop is None else stop
    begins = isinstance(start, int) and start == 0
    if not (isinstance(size, Size) and (stop is None or begins) and step in (None, 1)):
        raise OpenSizeError("a range begins or steps at an open size")
    ones = size.zeros("int32") + 1
    return ops.cast(ops.cumsum(ones, axis=0) - 1, dtype or "int32")


def _stretch(x: Any, sizes: Sequence[Any]) -> Any:
    """Broadcast a tensor along its axes of size one to open sizes."""
    rank = len(sizes)
    dtype = keras.backend.standardize_dtype(x.dtype)
    shape = (1,) * (rank - len(x.shape)) + tuple(x.shape)
    for axis, size in enumerate(sizes):
        if not isinstance(size, Size) or shape[axis] is None:
            continue
        if shape[axis] != 1:
            raise OpenSizeError(f"an axis of {shape[axis]} is stretched to an open size")
        line = size.zeros(dtype)
        line = ops.expand_dims(line, tuple(a for a in range(rank) if a != axis))
        # Keras 3.15 may take the addend of a sum for a bias, never what is subtracted.
        x = ops.logical_or(x, line) if dtype == "bool" else ops.subtract(x, line)
    return x


def _known(sizes: Sequence[Any], instead: int = 1) -> tuple:
    return tuple(instead if isinstance(size, Size) else size for size in sizes)


def _broadcast_to(x: Any, shape: Any) -> Any:
    if not _open(shape):
        return _PLAIN["broadcast_to"](x, shape)
    x = ops.convert_to_tensor(x)
    have = (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)
    wanted = tuple((h if isinstance(s, Size) else s) for h, s in zip(have, shape, strict=True))
    if None not in wanted and wanted != tuple(x.shape):
        x = _PLAIN["broadcast_to"](x, wanted)
    elif any(h in (1, None) and h != w for h, w in zip(have, wanted, strict=True)):
        raise OpenSizeError("a tensor of open sizes is stretched along another axis too")
    return _stretch(x, shape)


def _tile(x: Any, repeats: Any) -> Any:
    if not _open(repeats):
        return _PLAIN["tile"](x, repeats)
    repeats = [repeats] if isinstance(repeats, Size) else list(repeats)
    x = ops.convert_to_tensor(x)
    known = _known(repeats)
    if any(times != 1 for times in known):
        x = _PLAIN["tile"](x, known)
    return _stretch(x, repeats)


def _filled(name: str) -> Callable[..., Any]:
    def made(shape: Any, *args: Any, **kwargs: Any) -> Any:
        if not _open(shape):
            return _PLAIN[name](shape, *args, **kwargs)
        sizes = [shape] if isinstance(shape, Size) else list(shape)
        return _stretch(_PLAIN[name](_known(sizes), *args, **kwargs), sizes)

    return made


_OURS: dict[str, Callable[..., Any]] = {
    "shape": _shape,
    "reshape": _reshape,
    "arange": _arange,
    "broadcast_to": _broadcast_to,
    "tile": _tile,
    "zeros": _filled("zeros"),
    "ones": _filled("ones"),
    "full": _filled("full"),
    "empty": _filled("empty"),
}
_PLAIN: dict[str, Callable[..., Any]] = {name: getattr(ops, name) for name in _OURS}
_PLAIN["zeros_like"] = ops.zeros_like


def _instead(ours: Callable[..., Any]) -> Callable[..., Callable[..., Any]]:
    return lambda plain: ours


@contextlib.contextmanager
def open_sizes() -> Iterator[None]:
    """Make `keras.ops` accept and return unknown sizes while entered.

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
        for name, function in _OURS.items():
            entered.enter_context(replaced(ops, name, _instead(function)))
        yield
