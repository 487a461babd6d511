"""Changes to the graph of a SavedModel for operations without a kernel in the runtime."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfprune.deploy.converter.rewrites.graph import (
    Expression,
    constant,
    constant_value,
    node_of,
    replace_outputs,
)
from tfprune.deploy.converter.rewrites.sizes import output_sizes

_LEAST = float(np.finfo("float32").tiny)


def take_zeros_for_equal(function: Any) -> None:
    """Make argmax and argmin of Keras 3 treat -0.0 as 0.0.

    Keras replaces -0.0 by the smallest negative number, which it finds by the bits of the floats.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    by_name = {node.name: node for node in function.node_def}
    for node in [node for node in function.node_def if node.op == "SelectV2"]:
        condition, least, kept = node.input[:3]
        if _value(by_name, least) == -_LEAST and "Bitcast" in _operations_before(
            by_name, condition
        ):
            _become(node, "Identity", [kept])


def trust_shapes(function: Any) -> None:
    """Remove the checks of `tf.ensure_shape`.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    for node in function.node_def:
        if node.op == "EnsureShape":
            _become(node, "Identity", [node.input[0]])


def roll_by_gathering(function: Any) -> None:
    """Roll axes of known size by gathering their entries in the new order.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    by_name = {node.name: node for node in function.node_def}
    renamed = {}
    for node in [node for node in function.node_def if node.op == "Roll"]:
        shifts, axes = (constant_value(by_name, name) for name in node.input[1:3])
        sizes = output_sizes(node)
        if shifts is None or axes is None or sizes is None:
            continue
        pairs = list(zip(shifts.ravel().tolist(), axes.ravel().tolist(), strict=True))
        if any(sizes[axis] < 1 for _, axis in pairs):
            continue
        e, value = Expression(function, node), node.input[0]
        for shift, axis in pairs:
            order = np.roll(np.arange(sizes[axis]), shift).tolist()
            value = e.gather(value, order, axis % len(sizes))
        renamed[f"{node.name}:output:0"] = value
    replace_outputs(function, renamed)


def count_by_one_hot(function: Any) -> None:
    """Count the values of each row, as CategoryEncoding does, by summing one-hot vectors.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    from tensorflow.core.framework import types_pb2

    by_name = {node.name: node for node in function.node_def}
    for node in [node for node in function.node_def if node.op == "DenseBincount"]:
        values, size, weights = node.input[:3]
        weighted, depth = constant_value(by_name, weights), _size(by_name, size)
        if weighted is None or weighted.size or depth is None:
            continue
        kind, presence = node.attr["T"].type, node.attr["binary_output"].b
        hot = function.node_def.add(name=f"{node.name}_hot", op="OneHot")
        hot.input.append(values)
        for name, number, dtype in (
            ("depth", depth, types_pb2.DT_INT32),
            ("on", 1, kind),
            ("off", 0, kind),
        ):
            hot.input.append(constant(function, f"{node.name}_{name}", number, dtype))
        hot.attr["T"].type, hot.attr["TI"].type = kind, node.attr["Tidx"].type
        hot.attr["axis"].i = -1
        axis = constant(function, f"{node.name}_axis", -2, types_pb2.DT_INT32)
        _become(node, "Max" if presence else "Sum", [f"{hot.name}:output:0", axis])
        node.attr["Tidx"].type = types_pb2.DT_INT32


def one_hot_by_comparing(function: Any) -> None:
    """Make one-hot vectors by comparing the indices, plus one, with 1, 2, 3 …

    The converter gives the ones and the zeros of a quantized one-hot different scales.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    by_name = {node.name: node for node in function.node_def}
    for node in [node for node in function.node_def if node.op == "OneHot"]:
        kind = node.attr["T"].type
        # A SavedModel leaves defaults out.
        index = node.attr["TI"].type if "TI" in node.attr else types_pb2.DT_INT64
        last = "axis" not in node.attr or node.attr["axis"].i == -1
        depth, *bounds = (_value(by_name, name) for name in node.input[1:4])
        if depth is None or bounds != [1.0, 0.0] or not last:
            continue
        if not tf.as_dtype(kind).is_floating or index == types_pb2.DT_UINT8:
            continue
        apart = function.node_def.add(name=f"{node.name}_apart", op="ExpandDims")
        axis = constant(function, f"{node.name}_last", -1, types_pb2.DT_INT32)
        apart.input.extend([node.input[0], axis])
        apart.attr["T"].type, apart.attr["Tdim"].type = index, types_pb2.DT_INT32
        # With 0, 1, 2 … the converter would recognize a one-hot, and make one again.
        one = constant(function, f"{node.name}_one", 1, index)
        shifted = function.node_def.add(name=f"{node.name}_shifted", op="AddV2")
        shifted.input.extend([f"{apart.name}:output:0", one])
        shifted.attr["T"].type = index
        places = constant(function, f"{node.name}_places", list(range(1, int(depth) + 1)), index)
        same = function.node_def.add(name=f"{node.name}_same", op="Equal")
        same.input.extend([f"{shifted.name}:z:0", places])
        same.attr["T"].type, same.attr["incompatible_shape_error"].b = index, True
        # What a mask is cast to stays float, and so does what it is joined with.
        hot, cold = (constant(function, f"{node.name}_{one}", one, kind) for one in (1.0, 0.0))
        chosen = function.node_def.add(name=f"{node.name}_float", op="SelectV2")
        chosen.input.extend([f"{same.name}:z:0", hot, cold])
        chosen.attr["T"].type = kind
        _become(node, "Identity", [f"{chosen.name}:output:0"])


def inline_calls(function: Any) -> None:
    """Let calls of functions that Keras has compiled, as for grouped convolutions, be inlined.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    for attributes in (function.attr, *(node.attr for node in function.node_def)):
        for name in ("_XlaMustCompile", "_noinline"):
            attributes.pop(name, None)


def keep_indices_whole(function: Any) -> None:
    """Move indices as the integers that they were, not as floats, which would be rounded.

    CategoryEncoding casts its input to float, reshapes it, and casts it back.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    import tensorflow as tf

    by_name = {node.name: node for node in function.node_def}

    def whole(kind: int) -> bool:
        return bool(tf.as_dtype(kind).is_integer)

    for node in [node for node in function.node_def if node.op == "Cast"]:
        moves, source = [], node_of(by_name, node.input[0])
        while source is not None and source.op in ("Reshape", "ExpandDims", "Squeeze", "Identity"):
            moves.append(source)
            source = node_of(by_name, source.input[0])
        if source is None or source.op != "Cast" or not whole(node.attr["DstT"].type):
            continue
        kind = source.attr["SrcT"].type
        if whole(kind) and not whole(node.attr["SrcT"].type):
            value = source.input[0]
            for move in reversed(moves):
                copy = function.node_def.add()
                copy.CopyFrom(move)
                copy.name, copy.attr["T"].type = f"{node.name}/{move.name}_whole", kind
                copy.input[0] = value
                value = f"{copy.name}:output:0"
            node.input[0], node.attr["SrcT"].type = value, kind


def square_by_multiplying(function: Any) -> None:
    """Write x² as x·x: the converter keeps a square float.

    It creates one itself from a squared difference with more than four axes (GroupNormalization).

    Args:
        function: A `FunctionDef`, changed in place.
    """
    renamed = {}
    by_name = {node.name: node for node in function.node_def}
    for node in [node for node in function.node_def if node.op == "SquaredDifference"]:
        if _axes(by_name, node.input[0]) > 4:
            difference = function.node_def.add(name=f"{node.name}_difference", op="Sub")
            difference.input.extend(node.input[:2])
            difference.attr["T"].CopyFrom(node.attr["T"])
            # Its one output is called z already.
            _become(node, "Mul", [f"{difference.name}:z:0"] * 2)
    for node in [node for node in function.node_def if node.op == "Square"]:
        before = node_of(by_name, node.input[0])
        if before is not None and before.op == "Sub":
            continue  # The converter fuses the two to one integer operation.
        _become(node, "Mul", [node.input[0], node.input[0]])
        # The one output of Square is called y, that of Mul z.
        renamed[f"{node.name}:y:0"] = f"{node.name}:z:0"
    replace_outputs(function, renamed)


def _become(node: Any, kind: str, inputs: list[str]) -> None:
    """Replace the operation of a node; the output's name and the control inputs stay."""
    control = [name for name in node.input if name.startswith("^")]
    dtype = node.attr["T"].type
    del node.input[:]
    node.input.extend([*inputs, *control])
    node.attr.clear()
    node.attr["T"].type = dtype
    node.op = kind


def _size(by_name: Mapping[str, Any], name: str) -> int | None:
    """Return how many values are counted: their maximum, at least a and at most b.

    None where a and b differ.
    """
    size = _value(by_name, name)
    node = node_of(by_name, name)
    if size is None and node is not None and node.op == "Minimum":
        most, inner = _value(by_name, node.input[0]), node_of(by_name, node.input[1])
        if inner is not None and inner.op == "Maximum" and _value(by_name, inner.input[0]) == most:
            size = most
    return None if size is None else int(size)


def _axes(by_name: Mapping[str, Any], name: str) -> int:
    """Return how many axes the output of a reshape has; 0 for other operations."""
    node = node_of(by_name, name)
    if node is None or node.op != "Reshape":
        return 0
    sizes, known = node_of(by_name, node.input[1]), constant_value(by_name, node.input[1])
    if known is not None:
        return known.size
    return len(sizes.input) if sizes is not None and sizes.op == "Pack" else 0


def _value(by_name: Mapping[str, Any], name: str) -> float | None:
    value = constant_value(by_name, name)
    return float(value.ravel()[0]) if value is not None and value.size == 1 else None


def _operations_before(by_name: Mapping[str, Any], name: str, steps: int = 4) -> set[str]:
    """Return the kinds of the operations up to some steps before an input."""
    found, names = set(), {name}
    for _ in range(steps):
        nodes = [node for node in (node_of(by_name, name) for name in names) if node is not None]
        found |= {node.op for node in nodes}
        names = {name for node in nodes for name in node.input}
    return found
