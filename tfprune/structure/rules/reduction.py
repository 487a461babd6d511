"""Sums, means and products over axes, and products of two tensors."""

from typing import Any

from keras import layers as kl

from tfprune.structure.flow import Axes, Flow, Ids
from tfprune.structure.graph import Call, Ref
from tfprune.structure.rules.activation import mix
from tfprune.structure.rules.movement import stop
from tfprune.structure.rules.table import layers, ops


@ops("Mean", "Sum", "Max", "Min", "Amax", "Amin", "Var", "Std", "Prod", "Any", "All", "Logsumexp")
def reduce(flow: Flow, call: Call) -> Axes:
    """A sum can be silenced; every other reduction over a removable axis is changed."""
    x, axis = flow.axes(call.args[0]), call.op.axis
    axes = range(len(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    gone = {a % len(x) for a in axes}
    name = type(call.op).__name__
    for position in gone:
        if name == "Sum":
            flow.silence(call, call.args[0], position, x[position])
        else:
            mix(flow, call, x, position, f"{name} over these channels")
    if call.op.keepdims:
        return tuple(None if position in gone else ids for position, ids in enumerate(x))
    return tuple(ids for position, ids in enumerate(x) if position not in gone)


@ops("Cumsum", "Cumprod")
def accumulate(flow: Flow, call: Call) -> Axes:
    """Each position depends on those before it."""
    x, axis = flow.axes(call.args[0]), call.op.axis
    if axis is None:
        return stop(flow, call, "runs over all positions of its input")
    flow.freeze(x[axis], f"{call.path} runs over this axis")
    axis %= len(x)
    return (*x[:axis], None, *x[axis + 1 :])


@ops("Norm", "Normalize")
def norm(flow: Flow, call: Call) -> Axes:
    """Lengths of vectors are those of all their positions."""
    return stop(flow, call, "takes the length of these vectors")


def contract(flow: Flow, call: Call, a: Any, b: Any, pairs: list[tuple[int, int]]) -> None:
    """Join what two tensors are summed over together, and silence it."""
    for axis_a, axis_b in pairs:
        ids_a, ids_b = flow.axes(a)[axis_a], flow.axes(b)[axis_b]
        flow.join(ids_a, ids_b, f"{call.path} multiplies this with something that stays")
        flow.silence(call, a, axis_a, ids_a)


@ops("Matmul")
def matmul(flow: Flow, call: Call) -> Axes:
    """The last axis of the first with the last but one of the second; the rest broadcast."""
    a, b = call.args
    if not (isinstance(a, Ref) and isinstance(b, Ref)):
        return stop(flow, call, "multiplies with a matrix that belongs to no layer")
    xa, xb = flow.axes(a), flow.axes(b)
    if min(len(xa), len(xb)) < 2 or len(xa) != len(xb):
        return stop(flow, call, "multiplies tensors of different ranks")
    contract(flow, call, a, b, [(len(xa) - 1, len(xb) - 2)])
    before: list[Ids | None] = []
    for position in range(len(xa) - 2):
        why = f"{call.path} joins this to something that cannot be removed"
        sizes = flow.shape(a)[position], flow.shape(b)[position]
        if 1 in sizes and sizes[0] != sizes[1]:
            before.append(xb[position] if sizes[0] == 1 else xa[position])
        else:
            before.append(flow.join(xa[position], xb[position], why))
    shown = zip(before, flow.sizes[call.outputs[0].index], strict=False)
    rows = [size if ids is None else ids for ids, size in shown]
    flow.cost(call, 1, *rows, *flow.extents(a)[-2:], flow.extents(b)[-1])
    return (*before, xa[-2], xb[-1])


@layers(kl.Dot)
def dot(flow: Flow, call: Call) -> Axes:
    """A product over one axis of each; the batch goes along."""
    a, b = call.args[0]
    axes = call.op.axes
    axis_a, axis_b = (axes, axes) if isinstance(axes, int) else axes
    xa, xb = flow.axes(a), flow.axes(b)
    axis_a, axis_b = axis_a % len(xa), axis_b % len(xb)
    if call.op.normalize:
        # Without the silenced positions the lengths are the same.
        flow.silence(call, b, axis_b, xb[axis_b])
    contract(flow, call, a, b, [(axis_a, axis_b)])
    left = tuple(ids for position, ids in enumerate(xa) if position != axis_a)
    right = tuple(ids for position, ids in enumerate(xb) if position not in (0, axis_b))
    other = [size for position, size in enumerate(flow.extents(b)) if position not in (0, axis_b)]
    flow.cost(call, 1, *flow.extents(a), *other)
    out = left + right
    return out if len(out) > 1 else (None, None)


@ops("Einsum")
def einsum(flow: Flow, call: Call) -> Axes:
    """Letters that several operands share are joined; those that go are silenced."""
    left, arrow, result = call.op.subscripts.replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow or "." in left or not all(isinstance(ref, Ref) for ref in call.args):
        return stop(flow, call, f"multiplies as {call.op.subscripts}, which has no rule")
    of: dict[str, Ids | None] = {}
    sizes: dict[str, Ids | int | None] = {}
    for letters, ref in zip(operands, call.args, strict=True):
        for axis, letter in enumerate(letters):
            ids = flow.axes(ref)[axis]
            if letter in of:
                of[letter] = flow.join(of[letter], ids, f"{call.path} multiplies this with more")
            else:
                of[letter] = ids
            sizes[letter] = flow.extents(ref)[axis] if of[letter] is None else of[letter]
            if letter not in result:
                flow.silence(call, ref, axis, ids)
    flow.cost(call, 1, *sizes.values())
    return tuple(of[letter] for letter in result)


@layers(kl.Attention, kl.AdditiveAttention)
def attention(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Query and key are multiplied over their width; the value's width goes through."""
    query, value, *rest = call.args[0]
    key = rest[0] if rest else value
    xq, xk, xv = flow.axes(query), flow.axes(key), flow.axes(value)
    why = f"{call.path} joins this to something that cannot be removed"
    flow.join(xq[-1], xk[-1], why)
    if isinstance(call.op, kl.AdditiveAttention):
        ids = xq[-1]
        if call.op.scale is not None:
            flow.site(call.op).bind(call.op.scale, 0, ids, "use")
        else:
            mix(flow, call, xq, -1, "a sum of tanh over these channels")
    elif call.op.score_mode == "dot":
        flow.silence(call, query, -1, xq[-1])
    else:
        mix(flow, call, xq, -1, "a sum of tanh over these channels")
    *queries, width = flow.extents(query)
    _, steps, depth = flow.extents(value)
    flow.cost(call, 1, *queries, steps, width)
    flow.cost(call, 1, *queries, steps, depth)
    output = (*xq[:-1], xv[-1])
    return output if len(call.outputs) == 1 else [output, (*xq[:-1], None)]
