"""TimeDistributed: a layer or a model that runs on every step of a sequence."""

from collections.abc import Iterator
from typing import Any

from keras import layers as kl
from keras import tree

from tfprune.graph.graph import Call, Graph, Ref, Value
from tfprune.graph.read import is_function, read
from tfprune.keras_support.internals import operations_in_config
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes, Keep
from tfprune.structure.ids.propagate import concrete_shapes, count, propagate
from tfprune.structure.ids.rule_registry import find, layers, stop

Path = tuple[str | int, ...]


@layers(kl.TimeDistributed)
def time_distributed(flow: Flow, call: Call) -> Axes:
    """Propagate ids through the graph of the wrapped layer, without the time axis."""
    inner, given = call.op.layer, call.args[0]
    graph = _graph_of(flow, call)
    places = dict(_places(inner, ("layer",)))
    strange = [one.op.name for one in graph.calls if id(one.op) not in places]
    if strange or len(graph.calls) == 0 or len(tree.flatten((graph.inputs, graph.outputs))) != 2:
        return stop(flow, call, f"wraps {inner.name}, which has no rule")
    flow.freeze(flow.axes(given)[1], f"{call.path} runs over this axis")
    shapes = concrete_shapes(graph, flow.sizes[given.index][2:])
    sizes, counts = count(graph, shapes)
    flow.adopt(graph, sizes, flow.calls_of(call.op))
    (start,), (end,) = tree.flatten(graph.inputs), tree.flatten(graph.outputs)
    flow.axes_of[start.index] = _without_time(flow.axes(given))
    site = flow.site(call.op)
    for one in graph.calls:
        path = places[id(one.op)]
        label = one.path if is_function(inner) else ""
        flow.sites[id(one.op)] = site.inside(one.op, *path, label=label)
    before = len(flow.costs)
    propagate(flow, graph, counts)
    flow.repeat_costs(before, call, flow.sizes[given.index][1])
    for layer, ref in [*zip(graph.input_layers, [start], strict=False), *graph.nested]:
        if id(layer) in places:
            _resize_input(flow, site.inside(layer, *places[id(layer)]), ref)
    flow.leave(call, graph)
    if start.index in flow.vocabulary:
        flow.vocabulary[given.index] = flow.vocabulary[start.index]
    axes = flow.axes(end)
    return (axes[0], None, *axes[1:])


def _graph_of(flow: Flow, call: Call) -> Graph:
    """Return the graph that a wrapper runs on each step: of a model, or of one layer's call."""
    inner = call.op.layer
    if is_function(inner):
        return read(inner, lambda op: find(op) is not None)
    values = [
        Value(_without_time(flow.shape(ref)), flow.graph.values[ref.index].dtype)
        for ref in (call.args[0], call.outputs[0])
    ]
    one = Call(inner, (Ref(0),), {}, (Ref(1),), f"{call.path}/{inner.name}")
    calls = [one] if find(inner) is not None else []
    return Graph(inner, Ref(0), Ref(1), [], values, calls)


def _without_time(axes: tuple) -> tuple:
    return (axes[0], *axes[2:])


def _places(inner: Any, path: Path) -> Iterator[tuple[int, Path]]:
    """Yield the `id` of each wrapped operation, with its path in the wrapper's config."""
    yield id(inner), path
    if not is_function(inner):
        return
    listed = operations_in_config(inner)
    if len(inner.get_config().get("layers", ())) == len(listed):
        for number, op in enumerate(listed):
            yield from _places(op, (*path, "config", "layers", number))


def _resize_input(flow: Flow, site: Any, ref: Ref) -> None:
    """Set the input shape in the config of a wrapped model."""
    axes, shape = flow.axes(ref), flow.shape(ref)

    def batch_shape(keep: Keep) -> list[int | None]:
        return [
            size if ids is None else keep.count(ids) for ids, size in zip(axes, shape, strict=True)
        ]

    site.edit("batch_shape", batch_shape)
