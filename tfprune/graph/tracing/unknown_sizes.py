"""Axes of unknown size while a layer's `call` is traced.

`keras.ops.shape` of a symbolic tensor returns None for such an axis, and code that computes with
it (a causal mask, a reshape into heads) fails. While `open_sizes()` is entered it returns a `Size`
instead, and what takes sizes accepts it: the actual size is computed from the tensor at run time.
Slices by open sizes and reshapes to several of them become `take`. No length is fixed.
"""

import contextlib
import math
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.graph.tracing.open_size import OpenSizeError, Size, ratio, size_of
from tfprune.keras_support.internals import note_dense
from tfprune.keras_support.thread_replacements import replaced


def _open(values: object) -> bool:
    return any(isinstance(value, Size) for value in tree.flatten(values))


def _shape(x: Any) -> tuple:
    shape = _PLAIN["shape"](x)
    if not isinstance(x, keras.KerasTensor):
        return shape
    return tuple(size_of(x, axis) if size is None else size for axis, size in enumerate(shape))


def _tensor(x: Any) -> Any:
    return x if isinstance(x, keras.KerasTensor) else ops.convert_to_tensor(x)


def _ndim(x: Any) -> Any:
    return len(x.shape) if isinstance(x, keras.KerasTensor) else _PLAIN["ndim"](x)


def _extent(x: Any, axis: int) -> Any:
    size = x.shape[axis]
    return size_of(x, axis % len(x.shape)) if size is None else size


# Vectors. They are subtracted, not added: on TensorFlow, Keras adds a vector as long as the second
# axis along that axis, whatever its own is.


def _line(size: Any) -> Any:
    """Return a vector of zeros."""
    return size.line() if isinstance(size, Size) else np.zeros(size, "int32")


def _iota(size: Any) -> Any:
    """Return the numbers from zero up to a size."""
    if not isinstance(size, Size):
        return np.arange(size, dtype="int32")
    return ops.cumsum(size.line() + 1, axis=0) - 1


def _value(size: Any) -> Any:
    return size.value() if isinstance(size, Size) else size


def _along(line: Any, axis: int, rank: int) -> Any:
    """Return a vector as a tensor of a rank, along one of its axes."""
    return ops.expand_dims(line, tuple(other for other in range(rank) if other != axis))


def _positions(sizes: Sequence[Any]) -> Any:
    """Return a tensor of these sizes with the place of each element in the flat tensor."""
    place: Any = 0
    for axis, size in enumerate(sizes):
        later = math.prod(sizes[axis + 1 :], start=1)
        place = place - _along(_iota(size), axis, len(sizes)) * -_value(later)
    return place


# What takes sizes


def _reshape(x: Any, newshape: Any) -> Any:
    if not _open(newshape):
        return _PLAIN["reshape"](x, newshape)
    target = [newshape] if isinstance(newshape, Size) else list(newshape)
    x = _tensor(x)
    first = target[0]
    keeps_batch = isinstance(first, Size) and first.axis == 0 and x.shape[0] is None
    # An open axis from a tensor without one was split off the first axis, which is no batch.
    parted = _open(target[1:]) and None not in x.shape[1:]
    if keeps_batch and not parted and _may_hold(x.shape[1:], target[1:]):
        rest = _solved(x.shape[1:], target[1:])
        if rest is not None:
            return keras.layers.Reshape(rest)(x)
    target = _filled_in(x, target)
    sizes = [-1 if isinstance(size, Size) else size for size in target]
    if sizes.count(-1) == 1:
        return _PLAIN["reshape"](x, tuple(sizes))
    return _picked(x, target)


def _may_hold(shape: Sequence[int | None], target: Sequence[Any]) -> bool:
    """Return whether the target may have as many elements as a shape, both without the batch."""
    sizes = [size for size in shape if size is not None]
    opened = len(sizes) < len(shape) or _open(target) or -1 in target
    return opened or math.prod(sizes) == math.prod(target)


def _solved(shape: Sequence[int | None], target: Sequence[Any]) -> tuple[int, ...] | None:
    """Return a target without the batch and with at most one -1, or None."""
    sizes = [-1 if isinstance(size, Size) else size for size in target]
    if sizes.count(-1) <= 1:
        return tuple(sizes)
    left = _left(shape, target)
    several = sum(isinstance(size, Size) for size in target) > 1
    if left is None or several or sizes.count(-1) > 2 or list(shape).count(None) != 1:
        return None
    return tuple(
        -1 if isinstance(given, Size) else left if size == -1 else size
        for given, size in zip(target, sizes, strict=True)
    )


def _left(shape: Sequence[int | None], target: Sequence[Any]) -> int | None:
    """Return the size that -1 stands for, if the open sizes are those of the open axes."""
    if None not in shape or not _open(target):
        return None
    known = math.prod(size for size in target if isinstance(size, int) and size != -1)
    left, rest = divmod(math.prod(size for size in shape if size is not None), known)
    return None if rest else left


def _filled_in(x: Any, target: list[Any]) -> list[Any]:
    """Return a target with the size that -1 stands for, if it is the same for all open sizes."""
    if sum(isinstance(size, int) and size == -1 for size in target) != 1:
        return target
    rest = [size for size in target if isinstance(size, Size) or size != -1]
    whole = math.prod((_extent(x, axis) for axis in range(len(x.shape))), start=1)
    left = ratio(whole, math.prod(rest, start=1)) or _left(x.shape, target)
    if left is None:
        return target
    return [left if isinstance(size, int) and size == -1 else size for size in target]


def _picked(x: Any, target: list[Any]) -> Any:
    """Return a tensor reshaped to several open sizes, by picking from a flat one."""
    if any(isinstance(size, int) and size < 0 for size in target):
        raise OpenSizeError(f"a tensor of shape {tuple(x.shape)} is reshaped to open sizes and -1")
    last = 0
    while isinstance(target[-1 - last], int) and target[-1 - last] == x.shape[-1 - last]:
        last += 1
    flat = _PLAIN["reshape"](x, (-1, *x.shape[len(x.shape) - last :]))
    return ops.take(flat, _positions(target[: len(target) - last]), axis=0)


def _arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    step = 1 if step is None else step
    if not _open((start, stop, step)):
        return _PLAIN["arange"](start, stop, step, dtype)
    if stop is None:
        start, stop = 0, start
    parts = [int(part) if _is_whole(part) else part for part in (start, stop, step)]
    if not all(isinstance(part, int | Size) for part in parts) or not isinstance(parts[2], int):
        raise OpenSizeError("a range of open size begins or steps at a fraction or a tensor")
    begin, end, by = parts
    count = (end - begin + by - 1) // by if by > 0 else (begin - end - by - 1) // -by
    numbers = _value(begin) + _iota(count) * by
    floating = any(isinstance(part, float) for part in (start, stop, step))
    return ops.cast(numbers, dtype or (keras.config.floatx() if floating else "int32"))


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _stretch(x: Any, sizes: Sequence[Any]) -> Any:
    """Broadcast a tensor along its axes of size one to sizes, of which some may be open."""
    rank = len(sizes)
    dtype = keras.backend.standardize_dtype(x.dtype)
    shape = (1,) * (rank - len(x.shape)) + tuple(x.shape)
    for axis, size in enumerate(sizes):
        if shape[axis] is None if isinstance(size, Size) else size == shape[axis]:
            continue
        if shape[axis] not in (1, None):
            raise OpenSizeError(f"an axis of {shape[axis]} is stretched to an open size")
        line = _along(ops.cast(_line(size), dtype), axis, rank)
        # Keras 3.15 may take the addend of a sum for a bias, never what is subtracted.
        x = ops.logical_or(x, line) if dtype == "bool" else ops.subtract(x, line)
    return x


def _known(sizes: Sequence[Any], instead: int = 1) -> tuple:
    return tuple(instead if isinstance(size, Size) else size for size in sizes)


def _broadcast_to(x: Any, shape: Any) -> Any:
    if not _open(shape):
        return _PLAIN["broadcast_to"](x, shape)
    x = _tensor(x)
    have = (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)
    wanted = tuple((h if isinstance(s, Size) else s) for h, s in zip(have, shape, strict=True))
    if None not in wanted and wanted != tuple(x.shape):
        x = _PLAIN["broadcast_to"](x, wanted)
    return _stretch(x, shape)


def _tile(x: Any, repeats: Any) -> Any:
    if not _open(repeats):
        return _PLAIN["tile"](x, repeats)
    repeats = [repeats] if isinstance(repeats, Size) else list(repeats)
    x = _tensor(x)
    known = _known(repeats)
    if any(times != 1 for times in known):
        x = _PLAIN["tile"](x, known)
    repeats = [1] * (len(x.shape) - len(repeats)) + repeats
    for axis, times in enumerate(repeats):
        size = x.shape[axis - len(repeats)] if len(x.shape) >= len(repeats) - axis else 1
        if isinstance(times, Size) and size != 1:
            place = axis - len(repeats) + len(x.shape)
            both = _along(_iota(_extent(x, place)), 1, 2) - _along(_line(times), 0, 2)
            x = ops.take(x, _PLAIN["reshape"](both, (-1,)), axis=place)
            repeats[axis] = 1
    return _stretch(x, [_times(x, axis, repeats) for axis in range(len(repeats))])


def _times(x: Any, axis: int, repeats: Sequence[Any]) -> Any:
    """Return how often an axis of size one is repeated, or the size that an axis has."""
    if isinstance(repeats[axis], Size):
        return repeats[axis]
    place = axis - len(repeats) + len(x.shape)
    return x.shape[place] if place >= 0 else 1


def _repeat(x: Any, repeats: Any, axis: Any = None) -> Any:
    if not _open(repeats):
        return _PLAIN["repeat"](x, repeats, axis)
    x = _tensor(x)
    if axis is None or not isinstance(repeats, Size):
        raise OpenSizeError("positions are repeated open numbers of times")
    both = _along(_iota(_extent(x, axis)), 0, 2) - _along(_line(repeats), 1, 2)
    return ops.take(x, _PLAIN["reshape"](both, (-1,)), axis=axis)


def _pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    if not _open(pad_width):
        return _PLAIN["pad"](x, pad_width, mode, constant_values)
    if mode != "constant":
        raise OpenSizeError(f"an axis is padded to an open size with {mode!r}")
    x = _tensor(x)
    for axis, (before, after) in enumerate(pad_width):
        if not _open((before, after)):
            continue
        size = _extent(x, axis)
        place = _iota(size + (before + after)) - _value(before)
        inside = ops.logical_and(place >= 0, place < _value(size))
        place = ops.maximum(ops.minimum(place, _value(size) - 1), 0)
        fill = ops.cast(0 if constant_values is None else constant_values, x.dtype)
        x = ops.where(_along(inside, axis, len(x.shape)), ops.take(x, place, axis=axis), fill)
    known = [[0, 0] if _open(pair) else list(pair) for pair in pad_width]
    return _PLAIN["pad"](x, known, mode, constant_values) if np.any(known) else x


def _band(name: str) -> Callable[..., Any]:
    """Return `triu` or `tril` for matrices of open size, which not all backends take."""

    def band(x: Any, k: int = 0) -> Any:
        x = _tensor(x)
        if None not in x.shape[-2:]:
            return _PLAIN[name](x, k)
        row, column = (_iota(_extent(x, axis)) for axis in (-2, -1))
        offset = ops.expand_dims(column, 0) - ops.expand_dims(row, 1)
        return ops.where(offset >= k if name == "triu" else offset <= k, x, ops.cast(0, x.dtype))

    return band


def _einsum(subscripts: Any, *operands: Any, **kwargs: Any) -> Any:
    """Multiply with small letters: Keras takes others for numbers where sizes are open."""
    if isinstance(subscripts, str) and subscripts != subscripts.lower():
        spare = iter(sorted(set(string.ascii_lowercase) - set(subscripts)))
        large = [letter for letter in dict.fromkeys(subscripts) if letter.isupper()]
        if len(large) + len(set(subscripts) & set(string.ascii_lowercase)) <= 26:
            subscripts = subscripts.translate({ord(letter): next(spare) for letter in large})
    return _PLAIN["einsum"](subscripts, *operands, **kwargs)


def _slice(x: Any, start_indices: Any, shape: Any) -> Any:
    if not _open((start_indices, shape)):
        return _PLAIN["slice"](x, start_indices, shape)
    ends = [start + size for start, size in zip(start_indices, shape, strict=True)]
    return x[tuple(slice(start, end) for start, end in zip(start_indices, ends, strict=True))]


def _item(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `KerasTensor.__getitem__` that takes open sizes, and None alone."""

    def item(x: Any, key: Any) -> Any:
        several = isinstance(key, tuple) or (
            isinstance(key, list) and any(isinstance(part, slice) for part in key)
        )
        parts = list(key) if several else [key]
        leaves = [[p.start, p.stop, p.step] if isinstance(p, slice) else p for p in parts]
        if not _open(leaves):
            return plain(x, key if keras.ops.is_tensor(key) else tuple(parts))
        dense = sum(part is not None and part is not Ellipsis for part in parts)
        dots = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
        parts[dots : dots + 1] = [slice(None)] * (len(x.shape) - dense)
        axis = 0
        for place, part in enumerate(parts):
            if isinstance(part, Size):
                at = part + _extent(x, axis) if part.negative else part
                x = ops.take(x, ops.expand_dims(at.value(), 0), axis=axis)
                parts[place] = 0
            elif isinstance(part, slice) and _open([part.start, part.stop, part.step]):
                x = _cut(x, axis, part)
                parts[place] = slice(None)
            axis += part is not None
        return x if all(part == slice(None) for part in parts) else plain(x, tuple(parts))

    return item


def _cut(x: Any, axis: int, part: slice) -> Any:
    """Return a slice of an axis; its end must lie inside, where Python would clip it."""
    if part.step not in (None, 1):
        raise OpenSizeError("a slice to an open size has a step")
    size = _extent(x, axis)
    start, stop = (
        place + size if (place.negative if isinstance(place, Size) else place < 0) else place
        for place in (
            0 if part.start is None else part.start,
            size if part.stop is None else part.stop,
        )
    )
    count = stop - start
    if isinstance(size, Size) and isinstance(count, Size) and count.key == size.key:
        return x
    return ops.take(x, _value(start) + _iota(count), axis=axis)


def _filled(name: str) -> Callable[..., Any]:
    def made(shape: Any, *args: Any, **kwargs: Any) -> Any:
        if not _open(shape):
            return _PLAIN[name](shape, *args, **kwargs)
        sizes = [shape] if isinstance(shape, Size) else list(shape)
        return _stretch(_PLAIN[name](_known(sizes), *args, **kwargs), sizes)

    return made


def _with_values(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operation that takes the numbers of open sizes as tensors."""

    def operation(*args: Any, **kwargs: Any) -> Any:
        if _open((args, kwargs)):
            args, kwargs = tree.map_structure(_value, (args, kwargs))
        return note_dense(plain(*args, **kwargs), *args, *kwargs.values())

    return operation


def _equal(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `==` of symbolic tensors by their numbers, as of tensors with data."""

    def equal(x: Any, other: Any) -> Any:
        number = isinstance(other, keras.KerasTensor | Size | np.ndarray | np.number | int | float)
        return ops.equal(x, other) if number or ops.is_tensor(other) else plain(x, other)

    return equal


_OURS: dict[str, Callable[..., Any]] = {
    "shape": _shape,
    "ndim": _ndim,
    "reshape": _reshape,
    "arange": _arange,
    "broadcast_to": _broadcast_to,
    "tile": _tile,
    "repeat": _repeat,
    "pad": _pad,
    "slice": _slice,
    "einsum": _einsum,
    "triu": _band("triu"),
    "tril": _band("tril"),
    "zeros": _filled("zeros"),
    "ones": _filled("ones"),
    "full": _filled("full"),
    "empty": _filled("empty"),
}
_PLAIN: dict[str, Callable[..., Any]] = {name: getattr(ops, name) for name in _OURS}
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
        for name, function in _OURS.items():
            entered.enter_context(replaced(ops, name, _instead(function)))
        for name in _OF_VALUES:
            entered.enter_context(replaced(ops, name, _with_values))
        for name in _OF_TENSORS:
            entered.enter_context(replaced(keras.KerasTensor, name, _with_values))
        entered.enter_context(replaced(keras.KerasTensor, "__getitem__", _item))
        entered.enter_context(replaced(keras.KerasTensor, "__eq__", _equal))
        yield
