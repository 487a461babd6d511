"""Sizes that are constants wherever tracing knows them.

Tracing notes the shape of every output in the graph, but the converter infers shapes anew and loses
what is computed from an open size: the axes of a tensor that `repeat` reshapes, although only the
batch is open. A convolution that reads it then has no known channels.
"""

from collections.abc import Callable
from typing import Any

from tfprune.deploy.converter.rewrites.graph import constant


def reshape_by_constants(function: Any) -> None:
    """Write the sizes of each reshape as constants, -1 for a single open one.

    Of several open sizes, those that are open are computed as before, each for itself.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    from tensorflow.core.framework import types_pb2

    for node in [node for node in function.node_def if node.op == "Reshape"]:
        sizes = output_sizes(node)
        if sizes is None or 0 in sizes:
            continue
        if sizes.count(-1) <= 1:
            node.input[1] = constant(function, f"{node.name}_sizes", sizes, types_pb2.DT_INT32)
            node.attr["Tshape"].type = types_pb2.DT_INT32
        elif sizes.count(-1) < len(sizes):
            node.input[1] = _packed(function, node, sizes)


def output_sizes(node: Any) -> list[int] | None:
    """Return the sizes of a node's first output, -1 for open ones; None if even their number is."""
    shapes = node.attr["_output_shapes"].list.shape if "_output_shapes" in node.attr else ()
    if not shapes or shapes[0].unknown_rank:
        return None
    return [dim.size for dim in shapes[0].dim]


def sizes_of(function: Any) -> Callable[[str], list[int] | None]:
    """Return a function that gives the sizes of an input by its name, as `output_sizes` does.

    It knows the function's arguments and the first outputs of its nodes.

    Args:
        function: A `FunctionDef`.
    """
    sources = {node.name: node for node in function.node_def}
    for index, argument in enumerate(function.signature.input_arg):
        if index in function.arg_attr:
            sources[argument.name] = function.arg_attr[index]

    def sizes(name: str) -> list[int] | None:
        source = sources.get(name.partition(":")[0])
        return None if source is None else output_sizes(source)

    return sizes


def _packed(function: Any, reshape: Any, sizes: list[int]) -> str:
    """Add the sizes of a reshape as one tensor and return its name."""
    from tensorflow.core.framework import types_pb2

    # A SavedModel leaves defaults out.
    given = reshape.attr["Tshape"].type if "Tshape" in reshape.attr else types_pb2.DT_INT32
    parts = []
    for axis, size in enumerate(sizes):
        name = f"{reshape.name}_size_{axis}"
        if size != -1:
            parts.append(constant(function, name, size, given))
            continue
        part = function.node_def.add(name=name, op="StridedSlice")
        part.input.append(reshape.input[1])
        for which, number in (("begin", axis), ("end", axis + 1), ("strides", 1)):
            part.input.append(constant(function, f"{name}_{which}", [number], types_pb2.DT_INT32))
        part.attr["T"].type, part.attr["Index"].type = given, types_pb2.DT_INT32
        part.attr["shrink_axis_mask"].i = 1
        parts.append(f"{name}:output:0")
    pack = function.node_def.add(name=f"{reshape.name}_sizes", op="Pack")
    pack.input.extend(parts)
    pack.attr["T"].type, pack.attr["N"].i = given, len(parts)
    return f"{pack.name}:output:0"
