"""Sums, means and products over axes, and products of two tensors."""

from typing import Any

from keras import layers as kl

from tfprune.graph.graph import Call, Ref
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes, Ids
from tfprune.structure.ids.rule_registry import layers, ops, stop
from tfprune.structure.rules.activation import mix

_DOTS = "0123456789"
"""The letters for the axes under the dots of an einsum, aligned at the end."""


@ops("Mean", "Sum", "Max", "Min", "Amax", "Amin", "Var", "Std", "Prod", "Any", "All", "Logsumexp")
def reduce(flow: Flow, call: Call) -> Axes:
    """Zero removed positions of a sum; any other reduction of an axis mixes it."""
    x, axis = flow.axes(call.args[0]), call.op.axis
    axes = range(len(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    reduced = {a % len(x) for a in axes}
    name = type(call.op).__name__
    for position in reduced:
        if name == "Sum":
            flow.zero_input(call, call.args[0], position, x[position])
        else:
            mix(flow, call, x, position, f"{name} over these channels")
    if call.op.keepdims:
        return tuple(None if position in reduced else ids for position, ids in enumerate(x))
    return tuple(ids for position, ids in enumerate(x) if position not in reduced)


@ops("Cumsum", "Cumprod")
def accumulate(flow: Flow, call: Call) -> Axes:
    """Freeze the axis of a running sum or product."""
    x, axis = flow.axes(call.args[0]), call.op.axis
    if axis is None:
        return stop(flow, call, "runs over all positions of its input")
    flow.freeze(x[axis], f"{call.path} runs over this axis")
    axis %= len(x)
    return (*x[:axis], None, *x[axis + 1 :])


@ops("Norm")
def norm(flow: Flow, call: Call) -> Axes:
    """Zero removed positions, which leaves the length exact unless zeros count in it."""
    x, axis, order = flow.axes(call.args[0]), call.op.axis, call.op.ord
    axes = (axis,) if isinstance(axis, int) else axis  # of one axis: a tuple before Keras 3.16
    reduced = {a % len(x) for a in (range(len(x)) if axes is None else axes)}
    _length(flow, call, order, reduced)
    if call.op.keepdims:
        return tuple(None if position in reduced else ids for position, ids in enumerate(x))
    return tuple(ids for position, ids in enumerate(x) if position not in reduced)


@ops("Normalize")
def normalize(flow: Flow, call: Call) -> Axes:
    """Zero removed positions of the length that the input is divided by."""
    x, axis = flow.axes(call.args[0]), call.op.axis
    axes = range(len(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    _length(flow, call, call.op.order, {a % len(x) for a in axes})
    return x


def _length(flow: Flow, call: Call, order: Any, reduced: set[int]) -> None:
    for position in reduced:
        ids = flow.axes(call.args[0])[position]
        if order is None or isinstance(order, str) or order > 0:
            flow.zero_input(call, call.args[0], position, ids)
        else:
            flow.freeze(ids, f"{call.path} computes a length in which zeros count")


def contract(flow: Flow, call: Call, a: Any, b: Any, pairs: list[tuple[int, int]]) -> None:
    """Join the axes that a product sums over, and zero their removed positions."""
    for axis_a, axis_b in pairs:
        ids_a, ids_b = flow.axes(a)[axis_a], flow.axes(b)[axis_b]
        flow.join(ids_a, ids_b, f"{call.path} multiplies this with frozen channels")
        flow.zero_input(call, a, axis_a, ids_a)


@ops("Matmul")
def matmul(flow: Flow, call: Call) -> Axes:
    """Contract the last axis of the first with the second to last of the second tensor."""
    a, b = call.args
    xa, xb = flow.axes(a), flow.axes(b)
    if min(len(xa), len(xb)) < 2:
        return stop(flow, call, "multiplies with a vector")
    _product(flow, call, [(len(xa) - 1, len(xb) - 2)])
    before: list[Ids | None] = []
    rank = max(len(xa), len(xb))
    for position in range(-rank, -2):
        why = f"{call.path} joins this to something that cannot be removed"
        # An axis that is stretched or missing has no ids.
        here = [
            (flow.shape(part)[position], x[position])
            for part, x in ((a, xa), (b, xb))
            if len(x) >= -position
        ]
        wide = [ids for size, ids in here if size != 1] or [ids for _, ids in here]
        before.append(wide[0] if len(wide) == 1 else flow.join(wide[0], wide[1], why))
    return (*before, xa[-2], xb[-1])


@ops("Tensordot")
def tensordot(flow: Flow, call: Call) -> Axes:
    """Contract some axes of two tensors; the others follow one another."""
    a, b = call.args
    xa, xb, axes = flow.axes(a), flow.axes(b), call.op.axes
    if isinstance(axes, int):
        axes = [range(len(xa) - axes, len(xa)), range(axes)]
    left, right = ([one] if isinstance(one, int) else list(one) for one in axes)
    pairs = [(i % len(xa), j % len(xb)) for i, j in zip(left, right, strict=True)]
    _product(flow, call, pairs)
    summed = {j for _, j in pairs}
    return (
        *(ids for position, ids in enumerate(xa) if position not in {i for i, _ in pairs}),
        *(ids for position, ids in enumerate(xb) if position not in summed),
    )


def _product(flow: Flow, call: Call, pairs: list[tuple[int, int]]) -> None:
    """Contract two tensors; freeze the axes if one is a matrix that belongs to no layer."""
    a, b = call.args
    if isinstance(a, Ref) and isinstance(b, Ref):
        contract(flow, call, a, b, pairs)
        return
    for axis_a, axis_b in pairs:
        why = f"{call.path} multiplies with a matrix that belongs to no layer"
        flow.freeze(flow.axes(a)[axis_a], why)
        flow.freeze(flow.axes(b)[axis_b], why)


@layers(kl.Dot)
def dot(flow: Flow, call: Call) -> Axes:
    """Contract one axis of each tensor, for each sample of the batch."""
    a, b = call.args[0]
    axes = call.op.axes
    axis_a, axis_b = (axes, axes) if isinstance(axes, int) else axes
    xa, xb = flow.axes(a), flow.axes(b)
    axis_a, axis_b = axis_a % len(xa), axis_b % len(xb)
    if call.op.normalize:
        # Zeroing removed positions leaves the lengths exact.
        flow.zero_input(call, b, axis_b, xb[axis_b])
    contract(flow, call, a, b, [(axis_a, axis_b)])
    left = tuple(ids for position, ids in enumerate(xa) if position != axis_a)
    right = tuple(ids for position, ids in enumerate(xb) if position not in (0, axis_b))
    out = left + right
    return out if len(out) > 1 else (None, None)


@ops("Einsum")
def einsum(flow: Flow, call: Call) -> Axes:
    """Join the letters that operands share, and zero removed positions of summed letters."""
    ranks = [len(flow.shape(part)) for part in call.args]
    filled = _letters(call.op.subscripts.replace(" ", ""), ranks)
    if filled is None:
        return stop(flow, call, f"multiplies as {call.op.subscripts}, which has no rule")
    operands, result = filled
    of: dict[str, Ids | None] = {}
    sizes: dict[str, int | None] = {}
    for letters, part in zip(operands, call.args, strict=True):
        for axis, letter in enumerate(letters):
            ids, size = flow.axes(part)[axis], flow.shape(part)[axis]
            if letter.isdigit() and size == 1 and letter in of:
                continue  # Under the dots, axes of size one are stretched.
            if letter in of and not (letter.isdigit() and sizes[letter] == 1):
                of[letter] = flow.join(of[letter], ids, f"{call.path} multiplies this with more")
            else:
                of[letter] = ids
            sizes[letter] = size
            if letter not in result and isinstance(part, Ref):
                flow.zero_input(call, part, axis, ids)
    return tuple(of[letter] for letter in result)


def _letters(subscripts: str, ranks: list[int]) -> tuple[list[str], str] | None:
    """Return the letters of each operand and of the result, with digits for the dots.

    Return None for subscripts without a result.

    Example:
        >>> _letters("...td,ds->...ts", [4, 2])
        (['89td', 'ds'], '89ts')
    """
    left, arrow, result = subscripts.partition("->")
    if not arrow:
        return None
    operands = []
    most = 0
    for letters, rank in zip(left.split(","), ranks, strict=True):
        hidden = rank - len(letters.replace("...", "")) if "..." in letters else 0
        operands.append(letters.replace("...", _DOTS[len(_DOTS) - hidden :]))
        most = max(most, hidden)
    return operands, result.replace("...", _DOTS[len(_DOTS) - most :])


@layers(kl.Attention, kl.AdditiveAttention)
def attention(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Contract query and key over their width; the value's width passes through."""
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
        flow.zero_input(call, query, -1, xq[-1])
    else:
        mix(flow, call, xq, -1, "a sum of tanh over these channels")
    output = (*xq[:-1], xv[-1])
    return output if len(call.outputs) == 1 else [output, (*xq[:-1], None)]
