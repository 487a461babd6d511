"""Residual branches: the calls between the start of a skip path and the sum that ends it.

The outputs of a branch are used by its sum only. If the other addend is the tensor that the
branch starts from, the branch and the sum can be removed, and that tensor takes the place of the
sum.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.graph.graph import Call, Graph, Ref, needed
from tfprune.keras_support.internals import (
    AddOperation,
    CustomScaleLayer,
    is_keras_operation,
    to_snake_case,
)

Arm = tuple[int, int]
"""One addend of one sum: the position of the call in the graph, and that of the addend."""


@dataclass(frozen=True, eq=False)
class ResidualBlock:
    """A residual branch.

    Attributes:
        name: The name of the sum; of the branch's last layer if Keras named the sum; or a number
            if Keras named them all.
        arm: The addend.
        branch: The tensor that is added.
        calls: The calls that compute only this tensor.
        layers: The names of its layers that have weights.
        reason: Why it is not removable, or "" if it is.
    """

    name: str
    arm: Arm
    branch: Ref
    calls: tuple[Call, ...]
    layers: tuple[str, ...]
    reason: str

    @property
    def removable(self) -> bool:
        """Whether it can be removed."""
        return not self.reason

    @property
    def names(self) -> list[str]:
        """The names that a filter can match."""
        return [self.name, *self.layers]


def addends(call: Call) -> tuple[Ref, ...]:
    """Return the tensors that a call adds or subtracts (none if it is not a sum of tensors)."""
    kind = type(call.op)
    if kind in (keras.layers.Add, keras.layers.Subtract, CustomScaleLayer):
        leaves = tuple(call.args[0])
    elif kind.__name__ in ("Add", "Subtract") and is_keras_operation(kind):
        leaves = (*call.args, *call.kwargs.values())
    else:
        return ()
    several = len(leaves) > 1 and all(isinstance(leaf, Ref) for leaf in leaves)
    return leaves if several and len(set(leaves)) == len(leaves) else ()


def is_removable(call: Call, position: int) -> bool:
    """Return whether a sum without this addend leaves the others unchanged."""
    plain = type(call.op).__name__ == "Add"
    return plain or position > 0


def find_blocks(graph: Graph) -> tuple[ResidualBlock, ...]:
    """Return all residual branches of a graph, in the order in which they run.

    A sum is residual if one of its addends starts from another, or from the start of another.
    A branch without weights is not a block: removing it from `y * gate + y` saves nothing.
    """
    readers = readers_of(graph)
    producers = {ref.index: place for place, call in enumerate(graph.calls) for ref in call.outputs}
    shown = {ref.index for ref in tree.flatten(graph.outputs)}
    blocks: list[ResidualBlock] = []
    for place, call in enumerate(graph.calls):
        parts = addends(call)
        own = [_exclusive(graph, readers, producers, shown, place, ref) for ref in parts]
        starts = [_entries(calls) for calls in own]
        for position, ref in enumerate(parts):
            others = [p for p in range(len(parts)) if p != position]
            skips = [parts[p] for p in others if parts[p].index in starts[position]]
            forks = [p for p in others if own[p] and starts[p] & starts[position]]
            # Of two branches, the shorter is the skip path.
            shorter = any((len(own[p]), -p) > (len(own[position]), -position) for p in forks)
            if not any(map(_has_weights, own[position])) or (forks and not skips and shorter):
                continue
            if skips:
                reason = _reason(graph, call, position)
            elif forks:
                reason = f"its skip path is not the identity: it contains {_through(own[forks[0]])}"
            else:
                before = _ancestors(graph, producers, starts[position])
                if not before.intersection(parts[p].index for p in others):
                    continue
                shared = sorted(
                    graph.calls[producers[index]].path
                    for index in starts[position]
                    if index in producers
                )
                reason = f"a part of it is also used elsewhere: {', '.join(shared)}"
            blocks.append(_block(call, (place, position), ref, own[position], reason, len(blocks)))
    return _unique(blocks)


def readers_of(graph: Graph) -> dict[int, list[int]]:
    """Return, for each tensor, the positions of the calls that read it."""
    readers: dict[int, list[int]] = {}
    for place, call in enumerate(graph.calls):
        for ref in call.inputs:
            readers.setdefault(ref.index, []).append(place)
    return readers


def _has_weights(call: Call) -> bool:
    given = tree.flatten((call.args, call.kwargs))
    return bool(getattr(call.op, "weights", ())) or any(
        isinstance(leaf, keras.Variable) for leaf in given
    )


def _exclusive(
    graph: Graph,
    readers: Mapping[int, list[int]],
    producers: Mapping[int, int],
    shown: set[int],
    place: int,
    end: Ref,
) -> tuple[Call, ...]:
    """Return the calls that only one addend depends on, in order."""
    mine: set[int] = set()
    waiting = [end.index]
    while waiting:
        # The latest producer first, so that all readers of its outputs have been visited.
        waiting.sort(key=lambda index: producers.get(index, -1))
        index = waiting.pop()
        producer = producers.get(index)
        if producer is None or producer in mine:
            continue
        outputs = [ref.index for ref in graph.calls[producer].outputs]
        read = {reader for output in outputs for reader in readers.get(output, ())}
        outside = read - mine - ({place} if index == end.index else set())
        if outside or shown.intersection(outputs):
            continue
        mine.add(producer)
        waiting += [ref.index for ref in graph.calls[producer].inputs]
    return tuple(graph.calls[producer] for producer in sorted(mine))


def _entries(calls: tuple[Call, ...]) -> set[int]:
    """Return the tensors that these calls read and do not compute."""
    made = {ref.index for call in calls for ref in call.outputs}
    return {ref.index for call in calls for ref in call.inputs} - made


def _ancestors(graph: Graph, producers: Mapping[int, int], ends: set[int]) -> set[int]:
    """Return the tensors that these tensors depend on."""
    seen: set[int] = set()
    waiting = list(ends)
    while waiting:
        producer = producers.get(waiting.pop())
        if producer is not None:
            fresh = {ref.index for ref in graph.calls[producer].inputs} - seen
            seen |= fresh
            waiting += fresh
    return seen


def _through(calls: tuple[Call, ...]) -> str:
    """Return the names of the layers on a skip path."""
    layers = [call.path for call in calls if getattr(call.op, "weights", None)]
    return ", ".join(layers[:2]) or calls[0].path


def _reason(graph: Graph, call: Call, position: int) -> str:
    if not is_removable(call, position):
        return f"{call.path} changes the remaining addend"
    if not keeps_shape(graph, call, {position}):
        return "the sum has another shape or dtype than the remaining addend"
    return ""


def keeps_shape(graph: Graph, call: Call, removed: set[int]) -> bool:
    """Return whether a sum without these addends has the same shape and dtype."""
    left = [ref for position, ref in enumerate(addends(call)) if position not in removed]
    total = graph.values[call.outputs[0].index]
    return any(graph.values[ref.index].shape == total.shape for ref in left) and all(
        graph.values[ref.index].dtype == total.dtype for ref in left
    )


def _block(
    call: Call, arm: Arm, ref: Ref, calls: tuple[Call, ...], reason: str, number: int
) -> ResidualBlock:
    layers = [c for c in calls if getattr(c.op, "weights", None)]
    # Use the name of the sum, unless Keras chose it.
    named = [c.path for c in (*layers, call) if not is_named_by_keras(c.op)]
    name = named[-1] if named else f"block_{number}"
    return ResidualBlock(
        name, arm, ref, calls, tuple(dict.fromkeys(c.path for c in layers)), reason
    )


def is_named_by_keras(op: Any) -> bool:
    """Return whether Keras chose the name of an operation, which varies between builds."""
    return bool(re.fullmatch(rf"{to_snake_case(type(op).__name__)}(_\d+)?", op.name))


def _unique(blocks: list[ResidualBlock]) -> tuple[ResidualBlock, ...]:
    taken: set[str] = set()
    result = []
    for block in blocks:
        name = block.name
        while name in taken:
            name += "'"
        taken.add(name)
        result.append(replace(block, name=name))
    return tuple(result)


def without(graph: Graph, arms: Mapping[Arm, np.ndarray | None]) -> Graph:
    """Return a graph without some addends and the calls that only they depend on.

    Args:
        graph: The graph, which is not changed.
        arms: The addends, each with None or, for one of two addends, the constant to add instead.
    """
    needed_before = {id(call) for call in needed(graph.calls, tree.flatten(graph.outputs))}
    replaced_by: dict[int, Ref] = {}

    def now(leaf: Any) -> Any:
        while isinstance(leaf, Ref) and leaf.index in replaced_by:
            leaf = replaced_by[leaf.index]
        return leaf

    calls: list[Call] = []
    for place, call in enumerate(graph.calls):
        here = {position: value for (at, position), value in arms.items() if at == place}
        if here:
            parts = [now(ref) for p, ref in enumerate(addends(call)) if p not in here]
            constants = [value for value in here.values() if value is not None]
            summed = _summed(call, parts, constants)
            if isinstance(summed, Ref):
                (out,) = call.outputs
                replaced_by[out.index] = summed
                continue
            call = summed
        elif any(now(ref) is not ref for ref in call.inputs):
            args, kwargs = tree.map_structure(now, (call.args, call.kwargs))
            call = replace(call, args=args, kwargs=kwargs)
        calls.append(call)
    outputs = tree.map_structure(now, graph.outputs)
    # Calls that no output depended on before are kept, with their inputs.
    unread = [call for call in graph.calls if id(call) not in needed_before]
    wanted = [*tree.flatten(outputs), *(ref for call in unread for ref in call.outputs)]
    return replace(graph, outputs=outputs, calls=needed(calls, wanted))


def _summed(call: Call, parts: list[Ref], constants: list[np.ndarray]) -> Call | Ref:
    """Return the sum of the remaining addends, or the tensor if only one remains."""
    if constants:
        (part,), (constant,) = parts, constants
        op = AddOperation(name=f"{call.op.name}_constant")
        return replace(call, op=op, args=(part, constant), kwargs={})
    if len(parts) == 1:
        return parts[0]
    return replace(call, args=(list(parts), *call.args[1:]))
