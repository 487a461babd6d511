"""Changes to the graph of a SavedModel that integer arithmetic needs to be correct."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfprune.deploy.converter.rewrites.graph import constant, replace_outputs

# Keras fills masked scores with -1e9 or the lowest float; tf_keras adds that number.
HIDES = -1e4
# exp(-12) is 1/160,000 of the smallest visible score: zero in steps of 1/256.
HIDDEN_BELOW = 12.0


def multiply_instead_of_negate(function: Any, *, prelu: bool = False) -> None:
    """Rewrite every negation as a multiplication by -1.

    The runtime has no integer kernel for a negation, and LayerNormalization of Keras 3 has one: it
    would stay float in an int8 file, and stop a 16x8 conversion.

    Args:
        function: A `FunctionDef`, changed in place.
        prelu: Keep the negations of a PReLU, so that the converter recognizes it.
    """
    renamed = {}
    fused = _before_error_function(function.node_def)
    if prelu:
        fused |= _inside_prelu(function.node_def)
    for node in [node for node in function.node_def if node.op == "Neg"]:
        if node.name in fused:
            continue
        minus_one = constant(function, f"{node.name}_minus_one", -1, node.attr["T"].type)
        node.op = "Mul"
        # Control inputs, marked by ^, follow the others.
        node.input.insert(1, minus_one)
        # The one output of Neg is called y, that of Mul z.
        renamed[f"{node.name}:y:0"] = f"{node.name}:z:0"
    replace_outputs(function, renamed)


def limit_masked_scores(function: Any) -> None:
    """Set masked scores a little below the smallest visible one, not to the lowest float.

    A tensor that contains -1e9 has steps of four million in 8 bits: all visible scores would be
    equal, and attention would be uniform.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    constants = dict(_scalars(function.node_def))
    for node in list(function.node_def):
        inputs = [name.partition(":")[0] for name in node.input]
        if node.op == "SelectV2" and constants.get(inputs[2], 0.0) <= HIDES:
            node.input[2] = _below(function, node)
        elif node.op == "Mul" and min(constants.get(name, 0.0) for name in inputs[:2]) <= HIDES:
            # (1 - mask) · -1e9, to be added to the scores.
            hidden = next(i for i in (0, 1) if constants.get(inputs[i], 0.0) <= HIDES)
            kind = node.attr["T"].type
            node.input[hidden] = constant(function, f"{node.name}_hidden", -2 * HIDDEN_BELOW, kind)


def _below(function: Any, select: Any) -> str:
    """Add a tensor a little below the smallest score of each row, and return its name."""
    from tensorflow.core.framework import types_pb2

    kind = select.attr["T"].type
    axis = constant(function, f"{select.name}_axis", -1, types_pb2.DT_INT32)
    least = function.node_def.add(name=f"{select.name}_least", op="Min")
    least.input.extend([select.input[1], axis])
    least.attr["T"].type, least.attr["Tidx"].type = kind, types_pb2.DT_INT32
    least.attr["keep_dims"].b = True
    below = function.node_def.add(name=f"{select.name}_below", op="Sub")
    distance = constant(function, f"{select.name}_distance", HIDDEN_BELOW, kind)
    below.input.extend([f"{least.name}:output:0", distance])
    below.attr["T"].type = kind
    return f"{below.name}:z:0"


def _scalars(nodes: Any) -> Iterator[tuple[str, float]]:
    import tensorflow as tf

    for node in nodes:
        if node.op == "Const" and tf.as_dtype(node.attr["dtype"].type).is_floating:
            value = np.asarray(tf.make_ndarray(node.attr["value"].tensor))
            if value.size == 1:
                yield node.name, float(value.ravel()[0])


def _before_error_function(nodes: Any) -> set[str]:
    """Return the nodes up to three steps before an Erf or Erfc.

    The converter recognizes exact GELU, for which the runtime has a kernel, by all its operations.
    """
    by_name = {node.name: node for node in nodes}
    found: set[str] = set()
    step = {node.name for node in nodes if node.op in ("Erf", "Erfc")}
    for _ in range(3):
        step = {
            name.partition(":")[0]
            for after in step
            if after in by_name
            for name in by_name[after].input
        }
        found |= step
    return found


def _inside_prelu(nodes: Any) -> set[str]:
    """Return the negations in relu(x) + (-a) · relu(-x), as PReLU of Keras is written."""
    by_name = {node.name: node for node in nodes}

    def before(node: Any) -> list[Any]:
        return [by_name.get(name.partition(":")[0]) for name in node.input if name[0] != "^"]

    def is_kind(node: Any, kind: str) -> bool:
        return node is not None and node.op == kind

    def is_fixed(node: Any) -> bool:
        todo, seen = [node], set()
        while todo:
            node = todo.pop()
            if node is None:  # an argument of the function
                return False
            if node.op not in ("Const", "ReadVariableOp") and node.name not in seen:
                seen.add(node.name)
                todo += before(node)
        return True

    found: set[str] = set()
    for total in (node for node in nodes if node.op in ("Add", "AddV2")):
        for above, below in itertools.permutations(before(total)):
            if not is_kind(above, "Relu") or not is_kind(below, "Mul"):
                continue
            for slope, mirrored in itertools.permutations(before(below)):
                if not is_kind(slope, "Neg") or not is_kind(mirrored, "Relu"):
                    continue
                if not is_fixed(slope):
                    continue
                (negation,) = before(mirrored)
                if is_kind(negation, "Neg") and negation.input[0] == above.input[0]:
                    found |= {slope.name, negation.name}
    return found
