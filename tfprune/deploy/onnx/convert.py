"""Conversion of a SavedModel to an ONNX file. Runs in a child process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfprune.deploy.onnx.names import rename


def convert_onnx_job(
    folder: str, target: str, inputs: Sequence[str], outputs: Sequence[str], opset: int
) -> None:
    """Convert a SavedModel with tf2onnx; inputs and outputs have this order in the file.

    Raises:
        ValueError: An operation has no counterpart in ONNX.
    """
    import onnx
    import tf2onnx

    graph, takes, gives = _frozen(folder)
    split_complementary_error_function(graph)
    names = {**{tensor: name for name, tensor in takes.items()},
             **{tensor: name for name, tensor in gives.items()}}  # fmt: skip
    model, _ = tf2onnx.convert.from_graph_def(
        graph,
        name="model",
        input_names=[takes[name] for name in inputs],
        output_names=[gives[name] for name in outputs],
        opset=opset,
        tensors_to_rename=names,
    )
    unknown = sorted(_unknown(model.graph, opset))
    if unknown:
        raise ValueError(f"ONNX has no operation for {', '.join(unknown)}")
    set_groups(model)
    put_in_order(model, inputs, outputs)
    rename(model.graph, {*inputs, *outputs})
    onnx.checker.check_model(model, full_check=True)
    Path(target).write_bytes(model.SerializeToString(deterministic=True))


def _frozen(folder: str) -> tuple[Any, dict[str, str], dict[str, str]]:
    """Return the graph without variables, and its inputs and outputs by their names in the model.

    Captured tensors, such as the mean of a Normalization layer, become constants too: otherwise
    they would be extra inputs.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(folder)
    function = loaded.signatures["serving_default"]
    frozen = convert_variables_to_constants_v2(
        function, lower_control_flow=False, aggressive_inlining=True
    )
    # Both are sorted by name; captured tensors follow the inputs.
    names = sorted(function.structured_input_signature[1])
    takes = [tensor.name for tensor in frozen.inputs if tensor.dtype != tf.resource]
    if len(takes) != len(names):
        raise ValueError(f"the graph takes {takes}, the model {names}")
    gives = [tensor.name for tensor in frozen.outputs]
    return (
        frozen.graph.as_graph_def(),
        dict(zip(names, takes, strict=True)),
        dict(zip(sorted(function.structured_outputs), gives, strict=True)),
    )


def set_groups(model: Any) -> None:
    """Set the number of groups of each convolution, in place; tf2onnx does so for images only."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Conv" or not all(shapes.get(name) for name in node.input[:2]):
            continue
        groups = shapes[node.input[0]][1] // (shapes[node.input[1]][1] or 1)
        for attribute in node.attribute:
            if attribute.name == "group" and groups > 1:
                attribute.i = groups


def split_complementary_error_function(graph: Any) -> None:
    """Rewrite erfc(x), which exact GELU uses and ONNX lacks, as 1 - erf(x), in place."""
    _split(graph.node, inside=False)
    for function in graph.library.function:
        renamed = _split(function.node_def, inside=True)
        for key, name in function.ret.items():
            function.ret[key] = renamed.get(name, name)


def _split(nodes: Any, *, inside: bool) -> dict[str, str]:
    """Rewrite the nodes of a graph, or inside a function; return the outputs' new names."""
    import tensorflow as tf

    renamed: dict[str, str] = {}
    for node in [node for node in nodes if node.op == "Erfc"]:
        inner, one = nodes.add(), nodes.add()
        kind = node.attr["T"].type
        one.name, one.op = f"{node.name}_one", "Const"
        one.attr["dtype"].type = kind
        one.attr["value"].tensor.CopyFrom(
            tf.make_tensor_proto(1, dtype=tf.as_dtype(kind), shape=[])
        )
        inner.name, inner.op = f"{node.name}_erf", "Erf"
        inner.attr["T"].type = kind
        inner.input.extend(node.input)
        node.op = "Sub"
        node.input[:] = [
            f"{one.name}:output:0" if inside else one.name,
            f"{inner.name}:y:0" if inside else inner.name,
        ]
        # The one output of Erfc is called y, that of Sub z.
        renamed[f"{node.name}:y:0"] = f"{node.name}:z:0"
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return renamed


def _unknown(graph: Any, opset: int) -> set[str]:
    """Return the operations that ONNX does not define, of a graph and those inside its nodes."""
    import onnx

    found: set[str] = set()
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opset, ""):
            found.add(node.op_type)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= _unknown(attribute.g, opset)
    return found


def put_in_order(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Put the inputs and outputs of an ONNX model in this order, in place.

    Raises:
        ValueError: The file has other names.
    """
    graph = model.graph
    for entries, names in ((graph.input, inputs), (graph.output, outputs)):
        by_name = {entry.name: entry for entry in entries}
        if sorted(by_name) != sorted(names):
            raise ValueError(f"the file has {sorted(by_name)}, the model {sorted(names)}")
        ordered = [type(entries[0]).FromString(by_name[name].SerializeToString()) for name in names]
        del entries[:]
        entries.extend(ordered)
    model.doc_string = ""
