"""Operations that split, slice and concatenate axes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from keras import layers as kl

from tfprune.graph.graph import Call, Ref
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes, Ids, Keep
from tfprune.structure.ids.rule_registry import layers, ops, stop
from tfprune.structure.rules.dense import note_vocabulary


@layers(kl.Concatenate)
@ops("Concatenate")
def concatenate(flow: Flow, call: Call) -> Axes:
    """Concatenate the ids along the axis; join the other axes."""
    parts = list(call.args[0])
    rank = len(flow.shape(parts[0]))
    axis = call.op.axis % rank
    why = f"{call.path} joins this to something that cannot be removed"
    out: list[Ids | None] = []
    for position in range(rank):
        here = [flow.axes(part)[position] for part in parts]
        if position == axis:
            out.append(_concatenated(flow, call, parts, here, axis))
            continue
        if any(ids is None for ids in here):
            for ids in here:
                flow.freeze(ids, why)
            out.append(None)
            continue
        for ids in here[1:]:
            flow.join(here[0], ids, why)
        out.append(here[0])
    constants = [part for part in parts if not isinstance(part, Ref)]
    if constants:
        flow.freeze_axes(tuple(out), f"{call.path} concatenates a constant")
    return tuple(out)


def _concatenated(flow: Flow, call: Call, parts: list, here: list, axis: int) -> Ids | None:
    if all(ids is None for ids in here):
        return None
    row = []
    for part, ids in zip(parts, here, strict=True):
        size = flow.shape(part)[axis]
        if ids is None:
            ids = flow.fixed(size or 0, f"{call.path} has a part that cannot be removed")
        row.append(ids)
    return np.concatenate(row)


@ops("Stack")
def stack(flow: Flow, call: Call) -> Axes:
    """Join the inputs as in an elementwise operation, and insert an axis."""
    parts = list(call.args[0])
    x = list(flow.merge(parts, f"{call.path} stacks this on something that cannot be removed"))
    x.insert(call.op.axis % (len(x) + 1), None)
    return tuple(x)


@ops("Unstack")
def unstack(flow: Flow, call: Call) -> list[Axes]:
    """Freeze the axis that is taken apart, and return the others for each output."""
    x = flow.axes(call.args[0])
    axis = call.op.axis % len(x)
    flow.freeze(x[axis], f"{call.path} takes this axis apart")
    return [(*x[:axis], *x[axis + 1 :])] * len(call.outputs)


@ops("Split", "ArraySplit")
def split(flow: Flow, call: Call) -> list[Axes]:
    """Split the ids; the kept parts may differ in size, so the split gets explicit indices."""
    x = flow.axes(call.args[0])
    axis = call.op.axis % len(x)
    sizes = [flow.shape(ref)[axis] for ref in call.outputs]
    ids = x[axis]
    if ids is None:
        return [x] * len(call.outputs)
    cuts = np.cumsum(sizes)[:-1]
    parts = np.split(ids, cuts)
    site = flow.site(call.op)

    def where(keep: Keep) -> Any:
        if keep.all(ids):
            return call.op.indices_or_sections
        return [int(cut) for cut in np.cumsum([keep.count(part) for part in parts])[:-1]]

    site.edit("indices_or_sections", where)
    return [(*x[:axis], part, *x[axis + 1 :]) for part in parts]


@ops("Glu")
def glu(flow: Flow, call: Call) -> Axes:
    """Tie the halves of an axis, of which one gates the other."""
    x = flow.axes(call.args[0])
    axis = call.op.axis % len(x)
    ids = x[axis]
    if ids is None:
        return x
    return (*x[:axis], flow.tie(ids.reshape(2, -1)), *x[axis + 1 :])


@ops("GetItem")
def get_item(flow: Flow, call: Call) -> Axes:
    """Slice the ids, and rewrite slices and integers for the kept positions."""
    x, shape = flow.axes(call.args[0]), flow.shape(call.args[0])
    key = call.args[1] if len(call.args) > 1 else call.kwargs["key"]
    given = list(key) if isinstance(key, tuple | list) else [key]
    plain = (int, slice, type(None), type(Ellipsis))
    if not all(isinstance(part, plain) for part in given):
        return stop(flow, call, "picks by a tensor or an array")
    dense = sum(part is not None and part is not Ellipsis for part in given)
    dots = given.index(Ellipsis) if Ellipsis in given else len(given)
    full = [slice(None)] * (len(x) - dense)
    full = [*given[:dots], *full, *given[dots + 1 :]]
    out: list[Ids | None] = []
    changes: list[Callable[[Keep], Any]] = []
    axis = 0
    for part in full:
        if part is None:
            out.append(None)
            changes.append(partial(_always, None))
            continue
        ids, size = x[axis], shape[axis]
        axis += 1
        if isinstance(part, int):
            if ids is not None:
                at = part % len(ids)
                flow.freeze(ids[at : at + 1], f"{call.path} picks this position")
                changes.append(partial(_count, ids[:at]))
            else:
                changes.append(partial(_always, part))
            continue
        if ids is None or part == slice(None):
            out.append(ids)
            changes.append(partial(_always, part))
            continue
        chosen, change = _slice(flow, call, ids, part, size or 0)
        out.append(chosen)
        changes.append(change)

    def rewrite(keep: Keep, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return (args[0], tuple(change(keep) for change in changes)), {}

    flow.rewrite(call, rewrite)
    return tuple(out)


def _always(value: Any, _keep: Keep) -> Any:
    return value


def _count(ids: Ids, keep: Keep) -> int:
    return keep.count(ids)


def _slice(
    flow: Flow, call: Call, ids: Ids, part: slice, size: int
) -> tuple[Ids, Callable[[Keep], slice]]:
    start, stop_at, step = part.indices(size)
    if step == 1:
        before, inside = ids[:start], ids[start:stop_at]

        def change(keep: Keep) -> slice:
            first_kept = keep.count(before)
            return slice(first_kept, first_kept + keep.count(inside))

        return inside, change
    if step > 1 and size % step == 0 and start < step and len(ids[part]) == size // step:
        # Every step-th position: tie the positions of one stride, so that the step is unchanged.
        flow.tie(ids.reshape(-1, step).T)
        return ids[part], lambda _keep: part
    if step == -1 and len(ids[part]) == size:
        return ids[::-1], lambda _keep: part
    flow.freeze(ids, f"{call.path} picks with a step of {step}")
    return ids[part], lambda _keep: part


@ops("Pad")
def pad(flow: Flow, call: Call) -> Axes:
    """Surround the ids with fixed ones for the padding, which is always kept."""
    x, widths = flow.axes(call.args[0]), list(call.op.pad_width)
    if len(widths) == 1:
        widths = widths * len(x)
    out: list[Ids | None] = []
    for ids, (before, after) in zip(x, widths, strict=True):
        if ids is None or not (before or after):
            out.append(ids)
            continue
        if call.op.mode != "constant":
            flow.freeze(ids, f"{call.path} pads with copies of this axis")
        why = f"{call.path} pads this axis"
        out.append(np.concatenate([flow.fixed(before, why), ids, flow.fixed(after, why)]))
    return tuple(out)


@ops("Take")
def take(flow: Flow, call: Call) -> Axes:
    """Freeze the axis that is indexed; the others pass through."""
    x, axis = flow.axes(call.args[0]), call.op.axis
    indices = call.args[1]
    if axis is None:
        return stop(flow, call, "picks from a flattened tensor")
    axis %= len(x)
    flow.freeze(x[axis], f"{call.path} picks from this axis")
    flow.freeze_axes(flow.axes(indices), f"{call.path} reads these as indices")
    rows = flow.shape(call.args[0])[axis]
    if rows is not None:
        note_vocabulary(flow, indices, rows)
    middle = (None,) * (len(flow.shape(call.outputs[0])) - len(x) + 1)
    return (*x[:axis], *middle, *x[axis + 1 :])
