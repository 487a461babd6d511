"""The ids sent through a graph, each call by the rule of its operation."""

from collections.abc import Mapping

from tfprune.errors import type_name
from tfprune.structure.flow import Flow
from tfprune.structure.graph import Graph
from tfprune.structure.rules.movement import stop
from tfprune.structure.rules.table import find


def carry(flow: Flow, graph: Graph, counts: Mapping[int, float]) -> None:
    """Find the axes of every tensor of a graph; those of its inputs are known.

    Args:
        flow: What rules read and write.
        graph: The calls, in the order they run.
        counts: What each call multiplies, by its `id`.
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
        each = [result] if isinstance(result, tuple) else list(result)
        for ref, axes in zip(call.outputs, each, strict=True):
            flow.axes_of[ref.index] = axes
