"""The shape of what a call makes, worked out without making it."""

from typing import Any

import keras
from keras import tree

from tfprune.measure.mac_rules import einsum_shape
from tfprune.structure.graph import Call, Graph
from tfprune.structure.rules.table import find
from tfprune.structure.symbolic import accepted


def outputs_of(graph: Graph, call: Call, args: Any, kwargs: Any) -> list[Any]:
    """Symbolic outputs of a call on symbolic arguments.

    A layer without a rule may be unable to say: its outputs keep the shapes that the model gave.
    """
    if isinstance(call.op, keras.Layer):
        kwargs = accepted(call.op, kwargs)
    try:
        made = tree.flatten(call.op.compute_output_spec(*args, **kwargs))
    except Exception:
        if find(call.op) is not None:
            raise
        values = [graph.values[ref.index] for ref in call.outputs]
        return [keras.KerasTensor(value.shape, dtype=value.dtype) for value in values]
    if isinstance(call.op, keras.layers.EinsumDense):
        # It says None for every axis that it passes on.
        (out,) = made
        told = einsum_shape(call.op.equation, [args[0].shape, call.op.kernel.shape])
        shape = [
            size if known is None else known for known, size in zip(out.shape, told, strict=True)
        ]
        made = [keras.KerasTensor(shape, dtype=out.dtype)]
    return made
