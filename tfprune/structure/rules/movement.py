"""Operations that only move elements: they are run on the positions of the ids."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import layers as kl

from tfprune.graph.graph import Call
from tfprune.graph.tracing.masks import MaskOf, WithMask
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes, Ids, Keep
from tfprune.structure.ids.rule_registry import layers, ops, stop

UNKNOWN = 2
"""The size used for the batch and other unknown axes while positions are moved."""

BATCHES = (UNKNOWN, 16, 64, 720)
"""Batch sizes to try: if an image was cut into windows, the batch is a multiple of their number."""


def move(
    flow: Flow,
    call: Call,
    ref: Any,
    function: Callable[[np.ndarray], np.ndarray],
    unknown: int = UNKNOWN,
) -> Axes:
    """Return the ids of the output of a movement, by moving the positions of each axis.

    If an axis is split, positions that land in one column are tied, so that they are removed
    together and the kept ones form a rectangle in the same order.
    """
    x, target = flow.axes(ref), flow.shape(call.outputs[0])
    out: list[Ids | None] = [None] * len(target)
    batch, *shape = flow.shape(ref)
    rest = tuple(unknown if size is None else size for size in shape)
    for axis, ids in enumerate(x):
        if ids is None:
            continue
        line = np.arange(len(ids), dtype=np.int32)
        line = line.reshape([-1 if position == axis else 1 for position in range(len(x))])
        moved = _moved(function, line, [batch] if batch else BATCHES, rest)
        if moved is None:
            return stop(flow, call, "moves this axis in a way that has no rule")
        varies = [
            position
            for position in range(moved.ndim)
            if moved.shape[position] > 1 and (moved != np.take(moved, [0], axis=position)).any()
        ]
        if not varies:
            flow.freeze(ids, f"{call.path} keeps one position of this axis")
            continue
        chosen = _channel(flow, varies)
        rows = np.moveaxis(moved, chosen, -1).reshape(-1, moved.shape[chosen])
        column = flow.tie(ids[np.unique(rows, axis=0)]) if len(varies) > 1 else ids[rows[0]]
        if target[chosen] is None or out[chosen] is not None:
            flow.freeze(ids, f"{call.path} merges this axis with another that can be removed")
        else:
            out[chosen] = column
    return tuple(out)


def _moved(
    function: Callable[[np.ndarray], np.ndarray],
    line: np.ndarray,
    batches: Sequence[int],
    rest: tuple[int, ...],
) -> np.ndarray | None:
    """Return the positions after the movement, for the first batch size that fits."""
    for batch in batches:
        try:
            return function(np.broadcast_to(line, (batch, *rest)))
        except ValueError:
            continue
    return None


def _channel(flow: Flow, varies: Sequence[int]) -> int:
    """Return which of the axes that an axis was split into is the channel axis."""
    if len(varies) > 1 and channels_first(flow):
        return varies[0] or varies[1]
    return varies[-1]


def channels_first(flow: Flow) -> bool:
    """Return whether the model's convolutions are channels-first."""
    formats = [getattr(call.op, "data_format", None) for call in flow.graph.calls]
    return "channels_first" in formats and "channels_last" not in formats


def counts(keep: Keep, target: Sequence[Any], axes: Axes) -> tuple[Any, ...]:
    """Return a target shape with the kept sizes (-1 and None are unchanged)."""
    return tuple(
        size if ids is None or size in (-1, None) else keep.count(ids)
        for size, ids in zip(target, axes, strict=True)
    )


@layers(kl.Flatten)
def flatten(flow: Flow, call: Call) -> Axes:
    """Move positions as Flatten does, which makes channels-first tensors channels-last first."""
    turned = call.op.data_format == "channels_first"

    def function(x: np.ndarray) -> np.ndarray:
        if turned and x.ndim > 2:
            x = np.moveaxis(x, 1, -1)
        return x.reshape(len(x), -1)

    return move(flow, call, call.args[0], function)


@layers(kl.Reshape)
def reshape_layer(flow: Flow, call: Call) -> Axes:
    """Move positions to the target shape, which is without the batch."""
    target = tuple(call.op.target_shape)
    unknown = _solved(flow.shape(call.args[0])[1:], target)
    axes = move(flow, call, call.args[0], lambda x: x.reshape(len(x), *target), unknown)
    flow.site(call.op).edit("target_shape", lambda keep: counts(keep, target, axes[1:]))
    return axes


@ops("Reshape")
def reshape(flow: Flow, call: Call) -> Axes:
    """Move positions to the new shape, which includes the batch, often as -1."""
    target = tuple(call.op.newshape)
    if not all(isinstance(size, int) for size in target):
        return stop(flow, call, "has a shape that is computed")
    # An unknown batch size takes the place of the -1.
    shape = tuple(-1 if size is None else size for size in flow.shape(call.outputs[0]))
    target_shape = shape if shape.count(-1) == 1 else target
    unknown = _solved(flow.shape(call.args[0])[1:], target_shape[1:])
    axes = move(flow, call, call.args[0], lambda x: x.reshape(target_shape), unknown)
    flow.site(call.op).edit("newshape", lambda keep: counts(keep, target, axes))
    return axes


def _solved(shape: Sequence[int | None], target: Sequence[int]) -> int:
    """Return the size of the one unknown axis, if the target determines it."""
    if -1 in target or list(shape).count(None) != 1:
        return UNKNOWN
    return max(1, math.prod(target) // math.prod(size or 1 for size in shape))


@layers(WithMask)
def with_mask(flow: Flow, call: Call) -> Axes:
    """Pass on the ids of the tensor; a mask has none."""
    tensor, _ = call.args[0]
    return flow.axes(tensor)


@layers(MaskOf)
def mask_of(flow: Flow, call: Call) -> Axes:
    """Return no ids: a mask has none."""
    return (None,) * len(flow.shape(call.outputs[0]))


@layers(kl.Permute, kl.RepeatVector)
@ops("Transpose", "Swapaxes", "Moveaxis", "ExpandDims", "Squeeze", "Flip", "Tile")
def rearrange(flow: Flow, call: Call) -> Axes:
    """Move positions as the operation itself does."""
    return move(flow, call, call.args[0], lambda x: np.asarray(call.op.call(x)))


@ops("Repeat")
def repeat(flow: Flow, call: Call) -> Axes:
    """Repeat each position."""
    times, axis = call.op.repeats, call.op.axis
    if axis is None or not isinstance(times, int):
        return stop(flow, call, "repeats positions unequally")
    return move(flow, call, call.args[0], lambda x: np.repeat(x, times, axis))


@ops("Roll")
def roll(flow: Flow, call: Call) -> Axes:
    """Freeze the rolled axes: the shift depends on their sizes."""
    x, axis = flow.axes(call.args[0]), call.op.axis
    if axis is None:
        return stop(flow, call, "rolls all axes at once")
    turned = {a % len(x) for a in ([axis] if isinstance(axis, int) else axis)}
    for position in turned:
        flow.freeze(x[position], f"{call.path} rolls this axis")
    return tuple(None if position in turned else ids for position, ids in enumerate(x))


@ops("DepthToSpace")
def depth_to_space(flow: Flow, call: Call) -> Axes:
    """Tie each block of channels into one unit: its parts move to different positions."""
    return _depth(flow, call, to_space=True)


@ops("SpaceToDepth")
def space_to_depth(flow: Flow, call: Call) -> Axes:
    """Repeat each channel for every position in a block."""
    return _depth(flow, call, to_space=False)


def _depth(flow: Flow, call: Call, *, to_space: bool) -> Axes:
    size, last = call.op.block_size, call.op.data_format == "channels_last"
    x = flow.axes(call.args[0])
    axis = 3 if last else 1
    ids = x[axis]
    if ids is None:
        return (None,) * 4
    # TensorFlow orders channels as (row in block, column in block, channel).
    out = flow.tie(ids.reshape(size * size, -1)) if to_space else np.tile(ids, size * size)
    return tuple(out if position == axis else None for position in range(4))


@ops("BroadcastTo")
def broadcast(flow: Flow, call: Call) -> Axes:
    """Freeze axes of size one that are stretched."""
    x, shape = flow.axes(call.args[0]), tuple(call.op.shape)
    x = (None,) * (len(shape) - len(x)) + x
    for ids, size in zip(x, shape, strict=True):
        if ids is not None and len(ids) != size:
            flow.freeze(ids, f"{call.path} stretches this axis")
    x = tuple(
        ids if ids is not None and len(ids) == size else None
        for ids, size in zip(x, shape, strict=True)
    )
    flow.site(call.op).edit("shape", lambda keep: counts(keep, shape, x))
    return x


@ops("Size", "Ndim", "Argmax", "Argmin")
def leave(flow: Flow, call: Call) -> Axes:
    """Freeze the input: the output depends on the number of channels."""
    return stop(flow, call, "depends on all positions of its input")
