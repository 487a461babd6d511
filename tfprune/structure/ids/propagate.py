"""Propagating ids through a graph, each call by the rule of its operation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfprune.errors import ModelError, type_name
from tfprune.graph.read import Call, Graph
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.rule_registry import find, stop


def propagate(flow: Flow, graph: Graph, counts: Mapping[int, float]) -> None:
    """Find the ids of every tensor of a graph from those of its inputs.

    Args:
        flow: The state that rules read and write.
        graph: The calls, in the order they run.
        counts: The multiplications of each call, by its `id`.
    """
    for call in graph.calls:
        rule, before = find(call.op), len(flow.costs)
        if rule is None:
            result = stop(flow, call, f"has no rule ({type_name(call.op)})")
        elif not call.inputs:
            result = [(None,) * len(flow.shape(ref)) for ref in call.outputs]
        else:
            result = rule(flow, call)
        flow.complete(call, before, counts[id(call)])
        each = [result] if isinstance(result, tuple) else result
        _check(flow, call, each)
        for ref, axes in zip(call.outputs, each, strict=True):
            flow.axes_of[ref.index] = axes


def _check(flow: Flow, call: Call, each: Any) -> None:
    """Raise if a rule, which may be the user's, returned something else than ids."""
    shapes = [flow.shape(ref) for ref in call.outputs]
    if isinstance(each, list) and len(each) == len(shapes):
        fits = [_fits(axes, shape) for axes, shape in zip(each, shapes, strict=True)]
        if all(fits):
            return
        each, shapes = [each[fits.index(False)]], [shapes[fits.index(False)]]
    wanted = " and ".join(f"one of {len(shape)} axes for {shape}" for shape in shapes)
    raise ModelError(
        f"the rule of {call.path} ({type_name(call.op)}) must return a tuple for each output, "
        f"{wanted}: None, or an array with an id for each position. Received "
        f"{each[0] if isinstance(each, list) and len(each) == 1 else each!r}"
    )


def _fits(axes: Any, shape: tuple[int | None, ...]) -> bool:
    return (
        isinstance(axes, tuple)
        and len(axes) == len(shape)
        and all(
            ids is None
            or (isinstance(ids, np.ndarray) and ids.ndim == 1 and size in (None, len(ids)))
            for ids, size in zip(axes, shape, strict=True)
        )
    )
