"""Names in an ONNX file that are the same on every conversion and contain the layer's name."""

import re
from collections.abc import Collection
from typing import Any

# The main operations of layers: their names in the TensorFlow graph contain the layer's name.
_LAYERS = frozenset({"Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})
# Parts of names that differ between conversions: counters and addresses of objects.
_PASSING = re.compile(r"__\d+|\d{8,}")


def rename(graph: Any, kept: Collection[str]) -> None:
    """Rename everything in the graph of an ONNX model, in place, but the names in `kept`.

    tf2onnx numbers names with a counter that continues between conversions, puts addresses of
    objects into some, and keeps an arbitrary one of equal constants or outputs.
    """
    _rename(graph, _Names(kept))
    _number_open_sizes(graph, {})


class _Names:
    """New names for old ones; the names of nodes and of values share one space."""

    def __init__(self, kept: Collection[str]) -> None:
        # An omitted input has the name "".
        self._new = {name: name for name in ("", *kept)}
        self._taken = set(self._new)

    def fresh(self, wanted: str) -> str:
        """Return an unused name."""
        name, count = wanted, 1
        while name in self._taken:
            name, count = f"{wanted}_{count}", count + 1
        self._taken.add(name)
        return name

    def of(self, old: str, wanted: str) -> str:
        """Return the new name of a value; on first use it is made from `wanted`."""
        if old not in self._new:
            self._new[old] = self.fresh(wanted)
        return self._new[old]


def _sort(graph: Any) -> None:
    """Sort nodes in the order in which the outputs need them, which is deterministic."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    done: set[int] = set()
    for output in graph.output:
        todo = [makers[output.name]] if output.name in makers else []
        while todo:
            needed = [makers[name] for name in _needs(graph.node[todo[-1]]) if name in makers]
            missing = [i for i in needed if i not in done]
            if missing:
                todo += reversed(missing)
                continue
            last = todo.pop()
            if last not in done:
                done.add(last)
                order.append(last)
    nodes = [type(graph.node[i]).FromString(graph.node[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _needs(node: Any) -> list[str]:
    """Return the values a node reads, including those read by graphs inside it."""
    found = list(node.input)
    for inner in _graphs_in(node):
        for entry in inner.node:
            found += _needs(entry)
        found += [entry.name for entry in inner.output]
    return found


def _graphs_in(node: Any) -> list[Any]:
    import onnx

    return [part.g for part in node.attribute if part.type == onnx.AttributeProto.GRAPH]


def _resolve_copies(graph: Any) -> None:
    """Make nodes read computed values instead of copies; of equal outputs, compute the first.

    An output equal to another is a copy of it, and which of the two is the copy is arbitrary.
    """
    made = {name for node in graph.node if node.op_type != "Identity" for name in node.output}
    origins = _origins(graph)
    first: dict[str, str] = {}
    for name in [entry.name for entry in graph.output]:
        first.setdefault(origins.get(name, name), name)
    outputs = {entry.name for entry in graph.output}
    read, given = {}, {}
    for copy, origin in origins.items():
        chosen = first[origin] if origin in outputs and origin in made else origin
        read[copy] = read[origin] = chosen
        given[origin], given[chosen] = chosen, origin
    _read(graph, read)
    for node in graph.node:
        node.output[:] = [given.get(name, name) for name in node.output]


def _origins(graph: Any) -> dict[str, str]:
    """Return the original of each copy in a graph."""
    found = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    for copy, origin in found.items():
        while origin in found:
            origin = found[origin]
        found[copy] = origin
    return found


def _read(graph: Any, new: dict[str, str]) -> None:
    """Replace the values read by the nodes of a graph and of graphs inside them."""
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        for inner in _graphs_in(node):
            _read(inner, new)
            for entry in inner.output:
                entry.name = new.get(entry.name, entry.name)


def _rename(graph: Any, names: _Names) -> None:
    import onnx

    _resolve_copies(graph)
    _sort(graph)
    for entry in graph.input:
        entry.name = names.of(entry.name, "input")
    for node in graph.node:
        node.name, node.doc_string = names.fresh(_name_of(node)), ""
        node.domain = node.domain  # An empty one is written or left out; now it is written.
        slots = onnx.defs.get_schema(node.op_type).inputs
        for place, old in enumerate(node.input):
            # A value that no earlier node computes is a constant.
            slot = slots[min(place, len(slots) - 1)].name
            node.input[place] = names.of(old, f"{node.name}.{slot}")
        for place, old in enumerate(node.output):
            node.output[place] = names.of(old, f"{node.name}:{place}")
        for inner in _graphs_in(node):
            _rename(inner, names)
    for entry in [*graph.output, *graph.initializer]:
        entry.name = names.of(entry.name, "unused")
    graph.name, graph.doc_string = "model", ""
    # Runtimes infer the shapes of values in between; names of open sizes there are counted.
    del graph.value_info[:]
    ordered = sorted(graph.initializer, key=lambda tensor: tensor.name)
    copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in ordered]
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _name_of(node: Any) -> str:
    path = node.name.removeprefix("StatefulPartitionedCall/")
    if node.op_type in _LAYERS and "/" in path and not _PASSING.search(path):
        return path
    return node.op_type


def _number_open_sizes(graph: Any, seen: dict[str, str]) -> None:
    """Number the open sizes of a graph and of those inside its nodes, such as a loop's body."""
    for entry in [*graph.input, *graph.output]:
        for size in entry.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = seen.setdefault(size.dim_param, f"size_{len(seen)}")
    for node in graph.node:
        for inner in _graphs_in(node):
            _number_open_sizes(inner, seen)
