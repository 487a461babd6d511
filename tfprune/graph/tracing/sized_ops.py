"""The operations of Keras that take sizes, for sizes that may be open.

The actual size is computed from a tensor at run time. Slices by open sizes and reshapes to several
of them become `take`. No length is fixed.
"""

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.graph.tracing.open_size import OpenSizeError, Size, ratio, size_of


def is_open(values: object) -> bool:
    """Return whether one of the values is an open size."""
    return any(isinstance(value, Size) for value in tree.flatten(values))


def _for_open(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """Return a function that runs Keras's own, of the same name, where no size is open."""
    name = name or function.__name__.removeprefix("_")

    def run(*args: Any, **kwargs: Any) -> Any:
        return (function if is_open((args, kwargs)) else PLAIN[name])(*args, **kwargs)

    return run


def _shape(x: Any) -> tuple:
    shape = PLAIN["shape"](x)
    if not isinstance(x, keras.KerasTensor):
        return shape
    return tuple(size_of(x, axis) if size is None else size for axis, size in enumerate(shape))


def _tensor(x: Any) -> Any:
    return x if isinstance(x, keras.KerasTensor) else ops.convert_to_tensor(x)


def _ndim(x: Any) -> Any:
    return len(x.shape) if isinstance(x, keras.KerasTensor) else PLAIN["ndim"](x)


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


def value_of(size: Any) -> Any:
    """Return a size as a number, which is a tensor if it is open."""
    return size.value() if isinstance(size, Size) else size


def _along(line: Any, axis: int, rank: int) -> Any:
    """Return a vector as a tensor of a rank, along one of its axes."""
    return ops.expand_dims(line, tuple(other for other in range(rank) if other != axis))


def _positions(sizes: Sequence[Any]) -> Any:
    """Return a tensor of these sizes with the place of each element in the flat tensor."""
    place: Any = 0
    for axis, size in enumerate(sizes):
        later = math.prod(sizes[axis + 1 :], start=1)
        place = place - _along(_iota(size), axis, len(sizes)) * -value_of(later)
    return place


# What takes sizes


@_for_open
def _reshape(x: Any, newshape: Any) -> Any:
    target = [newshape] if isinstance(newshape, Size) else list(newshape)
    x = _tensor(x)
    first = target[0]
    keeps_batch = isinstance(first, Size) and first.axis == 0 and x.shape[0] is None
    # An open axis from a tensor without one was split off the first axis, which is no batch.
    parted = is_open(target[1:]) and None not in x.shape[1:]
    if keeps_batch and not parted and _may_hold(x.shape[1:], target[1:]):
        rest = _solved(x.shape[1:], target[1:])
        if rest is not None:
            return keras.layers.Reshape(rest)(x)
    target = _filled_in(x, target)
    sizes = [-1 if isinstance(size, Size) else size for size in target]
    if sizes.count(-1) == 1:
        return PLAIN["reshape"](x, tuple(sizes))
    return _picked(x, target)


def _may_hold(shape: Sequence[int | None], target: Sequence[Any]) -> bool:
    """Return whether the target may have as many elements as a shape, both without the batch."""
    sizes = [size for size in shape if size is not None]
    opened = len(sizes) < len(shape) or is_open(target) or -1 in target
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
    if None not in shape or not is_open(target):
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
    flat = PLAIN["reshape"](x, (-1, *x.shape[len(x.shape) - last :]))
    return ops.take(flat, _positions(target[: len(target) - last]), axis=0)


@_for_open
def _arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    step = 1 if step is None else step
    if stop is None:
        start, stop = 0, start
    parts = [int(part) if _is_whole(part) else part for part in (start, stop, step)]
    if not all(isinstance(part, int | Size) for part in parts) or not isinstance(parts[2], int):
        raise OpenSizeError("a range of open size begins or steps at a fraction or a tensor")
    begin, end, by = parts
    count = (end - begin + by - 1) // by if by > 0 else (begin - end - by - 1) // -by
    numbers = value_of(begin) + _iota(count) * by
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


@_for_open
def _broadcast_to(x: Any, shape: Any) -> Any:
    x = _tensor(x)
    have = (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)
    wanted = tuple((h if isinstance(s, Size) else s) for h, s in zip(have, shape, strict=True))
    if None not in wanted and wanted != tuple(x.shape):
        x = PLAIN["broadcast_to"](x, wanted)
    return _stretch(x, shape)


@_for_open
def _tile(x: Any, repeats: Any) -> Any:
    repeats = [repeats] if isinstance(repeats, Size) else list(repeats)
    x = _tensor(x)
    known = _known(repeats)
    if any(times != 1 for times in known):
        x = PLAIN["tile"](x, known)
    repeats = [1] * (len(x.shape) - len(repeats)) + repeats
    for axis, times in enumerate(repeats):
        size = x.shape[axis - len(repeats)] if len(x.shape) >= len(repeats) - axis else 1
        if isinstance(times, Size) and size != 1:
            place = axis - len(repeats) + len(x.shape)
            both = _along(_iota(_extent(x, place)), 1, 2) - _along(_line(times), 0, 2)
            x = ops.take(x, PLAIN["reshape"](both, (-1,)), axis=place)
            repeats[axis] = 1
    return _stretch(x, [_times(x, axis, repeats) for axis in range(len(repeats))])


def _times(x: Any, axis: int, repeats: Sequence[Any]) -> Any:
    """Return how often an axis of size one is repeated, or the size that an axis has."""
    if isinstance(repeats[axis], Size):
        return repeats[axis]
    place = axis - len(repeats) + len(x.shape)
    return x.shape[place] if place >= 0 else 1


@_for_open
def _repeat(x: Any, repeats: Any, axis: Any = None) -> Any:
    x = _tensor(x)
    if axis is None or not isinstance(repeats, Size):
        raise OpenSizeError("positions are repeated open numbers of times")
    both = _along(_iota(_extent(x, axis)), 0, 2) - _along(_line(repeats), 1, 2)
    return ops.take(x, PLAIN["reshape"](both, (-1,)), axis=axis)


@_for_open
def _pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    if mode != "constant":
        raise OpenSizeError(f"an axis is padded to an open size with {mode!r}")
    x = _tensor(x)
    for axis, (before, after) in enumerate(pad_width):
        if not is_open((before, after)):
            continue
        size = _extent(x, axis)
        place = _iota(size + (before + after)) - value_of(before)
        inside = ops.logical_and(place >= 0, place < value_of(size))
        place = ops.maximum(ops.minimum(place, value_of(size) - 1), 0)
        fill = ops.cast(0 if constant_values is None else constant_values, x.dtype)
        x = ops.where(_along(inside, axis, len(x.shape)), ops.take(x, place, axis=axis), fill)
    known = [[0, 0] if is_open(pair) else list(pair) for pair in pad_width]
    return PLAIN["pad"](x, known, mode, constant_values) if np.any(known) else x


def _band(name: str) -> Callable[..., Any]:
    """Return `triu` or `tril` for matrices of open size, which not all backends take."""

    def band(x: Any, k: int = 0) -> Any:
        x = _tensor(x)
        if None not in x.shape[-2:]:
            return PLAIN[name](x, k)
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
    return PLAIN["einsum"](subscripts, *operands, **kwargs)


@_for_open
def _slice(x: Any, start_indices: Any, shape: Any) -> Any:
    ends = [start + size for start, size in zip(start_indices, shape, strict=True)]
    return x[tuple(slice(start, end) for start, end in zip(start_indices, ends, strict=True))]


def item(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `KerasTensor.__getitem__` that takes open sizes, and None alone."""

    def item(x: Any, key: Any) -> Any:
        several = isinstance(key, tuple) or (
            isinstance(key, list) and any(isinstance(part, slice) for part in key)
        )
        parts = list(key) if several else [key]
        leaves = [[p.start, p.stop, p.step] if isinstance(p, slice) else p for p in parts]
        if not is_open(leaves):
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
            elif isinstance(part, slice) and is_open([part.start, part.stop, part.step]):
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
    return ops.take(x, value_of(start) + _iota(count), axis=axis)


def _filled(name: str) -> Callable[..., Any]:
    def made(shape: Any, *args: Any, **kwargs: Any) -> Any:
        sizes = [shape] if isinstance(shape, Size) else list(shape)
        return _stretch(PLAIN[name](_known(sizes), *args, **kwargs), sizes)

    return _for_open(made, name)


SIZED: dict[str, Callable[..., Any]] = {
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
"""The operations by their names in `keras.ops`."""
PLAIN: dict[str, Callable[..., Any]] = {name: getattr(ops, name) for name in SIZED}
