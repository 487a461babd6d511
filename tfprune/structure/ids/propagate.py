"""Propagating ids through a graph, each call by the rule of its operation."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfprune.errors import ModelError, type_name
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.macs import products_of_call
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Ids
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
        each = [result] if isinstance(result, tuple) else result
        _check(flow, call, each)
        for ref, axes in zip(call.outputs, each, strict=True):
            flow.axes_of[ref.index] = axes
        if counts[id(call)] and len(flow.costs) == before:
            _charge(flow, call)
        flow.complete(call, before, counts[id(call)])


class _Extent(int):
    """The size of an axis, with the ids along it."""

    ids: Ids

    def __new__(cls, ids: Ids) -> "_Extent":
        """Return the size; two-dimensional ids are of a grouped kernel, a row for each block."""
        extent = super().__new__(cls, ids.shape[-1])
        extent.ids = ids
        return extent


def _charge(flow: Flow, call: Call) -> None:
    """Count the multiplications of a call, by the ids along the axes in its rule in `graph`."""
    refs: dict[int, Any] = {}

    def symbol(leaf: Any) -> Any:
        if not isinstance(leaf, Ref):
            return leaf
        tensor = keras.KerasTensor(flow.sizes[leaf.index], flow.dtypes[leaf.index])
        refs[id(tensor)] = leaf
        return tensor

    def axes(tensor: Any) -> tuple[int | None, ...]:
        extents = flow.extents(refs.get(id(tensor), tensor))
        return tuple(_Extent(one) if isinstance(one, np.ndarray) else one for one in extents)

    args, kwargs, outputs = keras.tree.map_structure(symbol, (call.args, call.kwargs, call.outputs))
    # Tracing a layer may draw random numbers, which must not advance the user's generators.
    with keras.StatelessScope():
        products, unknown = products_of_call(call.op, args, kwargs, outputs, call.path, axes)
    for product in products if not unknown else ():
        flow.cost(call, 1, *(getattr(size, "ids", size) for size in product))


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
