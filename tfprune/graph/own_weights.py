"""Turning the own weights of a composite layer, such as a class token, into layers.

An Embedding of which all rows are read represents a weight as a tensor: Keras saves and trains it
and tfprune cuts it like any other layer, and no custom object is needed.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.errors import ModelError
from tfprune.keras_support.internals import own_variables


def as_tensors(op: Any, anchor: Any) -> Any:
    """Return a stand-in for a layer whose own weights are tensors; use only its `call`.

    Trainable weights become outputs of an Embedding, others become constants. The layer is not
    changed, since another thread may be using it; the two share all other attributes.

    Args:
        op: A built layer.
        anchor: A symbolic tensor that the layer is called on.

    Raises:
        ModelError: A weight is not an attribute of the layer.
    """
    stand_in = object.__new__(type(op))
    vars(stand_in).update(vars(op))
    for variable in own_variables(op):
        names = [name for name, value in vars(op).items() if value is variable]
        if not names:
            raise ModelError(f"its weight {variable.name} is not an attribute of the layer")
        floating = "float" in keras.backend.standardize_dtype(variable.dtype)
        if variable.trainable and floating:
            tensor = _table(op, names[0], variable, anchor)
        else:
            tensor = ops.convert_to_tensor(variable)
        vars(stand_in).update(dict.fromkeys(names, tensor))
    return stand_in


def _table(op: Any, name: str, variable: Any, anchor: Any) -> Any:
    """Return a weight as the output of an Embedding, in its own shape."""
    shape = tuple(variable.shape)
    width = shape[-1] if shape else 1
    rows = math.prod(shape[:-1])
    table = keras.layers.Embedding(
        rows, width, name=f"{op.name}_{name.strip('_')}", dtype=op.dtype_policy
    )
    table.build()
    table.embeddings.assign(ops.reshape(variable, (rows, width)))
    # The index is computed from the input, since every layer needs an input.
    zero = ops.sum(ops.zeros_like(anchor, dtype="int32"))
    made = table(zero + np.arange(rows, dtype="int32"))
    return made if len(shape) == 2 else ops.reshape(made, shape)
