"""Whether a model that was unrolled still gives what it gave."""

from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.data.output_difference import largest_share
from tfprune.errors import ModelError
from tfprune.graph.read import Call
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.rebuild import execute, perform

CLOSE = {"float32": 1e-4, "float16": 2e-2}
"""How far both may be apart, as a share of the output's largest number."""


def check_unrolling(found: Units, inputs: list[np.ndarray], *, low_precision: bool) -> None:
    """Run the calls that were read from a model, and the model itself, on the same inputs.

    What a layer does may depend on what tracing cannot show it, such as a mask that Keras carries
    along with a tensor. Models of which nothing was traced need no such check.

    Raises:
        ModelError: They differ.
    """
    import tensorflow as tf

    if not found.graph.traced:
        return
    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    try:
        unrolled = execute(found.graph, tensors, _run)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"model {found.model.name!r}: unrolled into operations it cannot be run "
            f"({type(error).__name__}: {line[:160]}). Pass input_shape= if sizes of the input are "
            f"open. Unrolled were {_named(found.graph.traced)}"
        ) from error
    struct = tree.pack_sequence_as(found.graph.inputs, tensors)
    whole = found.model(struct, training=False)
    limit = CLOSE["float16" if low_precision else "float32"]
    for one, other in zip(tree.flatten(unrolled), tree.flatten(whole), strict=True):
        unrolled_one, expected = map(keras.ops.convert_to_numpy, (one, other))
        if largest_share(expected, unrolled_one) > limit:
            raise ModelError(
                f"model {found.model.name!r}: unrolled into operations it gives something else. "
                f"One of these does more than tracing shows: {_named(found.graph.traced)}. "
                "Give its class a rule with tfprune.rules.register"
            )


def _run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return perform(call.op, args, kwargs)


def _named(traced: list[Any]) -> str:
    more = f" and {len(traced) - 5} more" if len(traced) > 5 else ""
    return ", ".join(traced[:5]) + more
