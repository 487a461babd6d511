"""Following each call of a graph: its shapes, its multiplications, and its ids."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.errors import ModelError, type_name
from tfprune.graph.cost.macs import is_free, output_spec, products_of_call
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.inputs import given_shapes
from tfprune.graph.rebuild import Run, execute
from tfprune.graph.tracing.symbolic_calls import accepted
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Ids
from tfprune.structure.ids.rule_registry import find, stop

_SUMS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)


def outputs_of(graph: Graph, call: Call, args: Any, kwargs: Any) -> list[Any]:
    """Return the symbolic outputs of a call on symbolic arguments.

    If the output shapes of a layer without a rule cannot be inferred, the outputs have the shapes
    recorded in the model.

    Raises:
        ModelError: The operation cannot take tensors of these shapes.
    """
    if isinstance(call.op, keras.Layer):
        kwargs = accepted(call.op, kwargs)
    if find(call.op) is not None:
        try:
            return tree.flatten(output_spec(call.op, args, kwargs))
        except Exception as error:
            raise ModelError(_too_small(call, args, kwargs, error)) from error
    # A user's layer may have a wrong `compute_output_spec`; then its `call` is traced.
    with contextlib.suppress(Exception):
        return tree.flatten(output_spec(call.op, args, kwargs))
    with contextlib.suppress(Exception):
        return tree.flatten(keras.Operation.compute_output_spec(call.op, *args, **kwargs))
    values = [graph.values[ref.index] for ref in call.outputs]
    return [keras.KerasTensor(value.shape, dtype=value.dtype) for value in values]


def _too_small(call: Call, args: Any, kwargs: Any, error: Exception) -> str:
    tensors = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return (
        f"{call.path} cannot take tensors of shapes {shapes}, batch first: {reason}. "
        "Pass another input_shape="
    )


def concrete_shapes(graph: Graph, input_shape: Any) -> list[tuple[int | None, ...]]:
    """Return the shape of every tensor, inferred from `input_shape` if the model leaves it open."""
    static = [value.shape for value in graph.values]
    if input_shape is None or all(None not in shape[1:] for shape in static):
        return list(static)
    given = list(given_shapes(input_shape))
    refs = tree.flatten(graph.inputs)
    whole = [(graph.shape(ref)[0], *shape) for ref, shape in zip(refs, given, strict=True)]
    return _followed(graph, whole, partial(outputs_of, graph))


def _followed(graph: Graph, shapes: Iterable[tuple[int | None, ...]], run: Run) -> list[Any]:
    """Return the shape of every tensor, from those of the inputs and what each call gives."""
    refs = tree.flatten(graph.inputs)
    starts = [
        keras.KerasTensor(shape, dtype=graph.dtype(ref))
        for ref, shape in zip(refs, shapes, strict=True)
    ]
    found = {ref.index: start for ref, start in zip(refs, starts, strict=True)}

    def noted(call: Call, args: Any, kwargs: Any) -> list[Any]:
        made = run(call, args, kwargs)
        found.update((ref.index, one) for ref, one in zip(call.outputs, made, strict=True))
        return made

    execute(graph, starts, noted)
    return [tuple(found.get(i, value).shape) for i, value in enumerate(graph.values)]


def count(
    graph: Graph, shapes: Sequence[tuple[int | None, ...]]
) -> tuple[list[tuple[int | None, ...]], dict[int, float]]:
    """Return the sizes of all tensors for one sample, and the multiplications of each call.

    The batch counts as one sample, on whatever axis. The count of a call on open sizes is NaN if
    it multiplies; calls that cannot be counted are named in the notes.
    """
    counts: dict[int, float] = {}

    def run(call: Call, args: Any, kwargs: Any) -> list[Any]:
        made = outputs_of(graph, call, args, kwargs)
        counts[id(call)] = _count(graph, call, args, kwargs, made)
        return made

    given = (shapes[ref.index] for ref in tree.flatten(graph.inputs))
    return _followed(graph, [(shape[0] or 1, *shape[1:]) for shape in given], run), counts


def _count(graph: Graph, call: Call, args: Any, kwargs: Any, made: list[Any]) -> float:
    if is_free(call.op):
        return 0.0
    leaves = (*tree.flatten((args, kwargs)), *made)
    if any(isinstance(one, keras.KerasTensor) and None in one.shape for one in leaves):
        return math.nan
    # Tracing a layer may draw random numbers, which must not advance the user's generators.
    with keras.StatelessScope():
        products, unknown = products_of_call(call.op, args, kwargs, made, call.path)
    notes = [f"multiplications not counted: {one}" for one in unknown]
    graph.notes.extend(note for note in notes if note not in graph.notes)
    return float(sum(map(math.prod, products)))


def _reads_all_units(regularizer: Any) -> bool:
    """Return whether a penalty on an output may be something else than a sum over its units."""
    return regularizer is not None and type(regularizer) not in _SUMS


def propagate(flow: Flow, graph: Graph, counts: Mapping[int, float]) -> None:
    """Find the ids of every tensor of a graph from those of its inputs.

    `counts` are the multiplications of each call, by its `id`.
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
        if _reads_all_units(getattr(call.op, "activity_regularizer", None)):
            for axes in each:
                flow.freeze_axes(axes, f"the activity regularizer of {call.path} reads all of them")
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
