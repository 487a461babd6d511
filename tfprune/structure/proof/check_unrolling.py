"""Checking that the traced graph computes the same as the model."""

import re
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.data.model_comparison import largest_share
from tfprune.errors import ModelError
from tfprune.graph.graph import Call
from tfprune.graph.rebuild import execute, perform
from tfprune.keras_support.internals import all_layers, own_seed_generators
from tfprune.structure.groups.units import Units

CLOSE = {"float32": 1e-4, "float16": 2e-2}
"""The largest allowed difference, as a share of the output's largest number."""


def check_unrolling(found: Units, inputs: list[np.ndarray], *, low_precision: bool) -> None:
    """Check that the calls read from a model give the same outputs as the model itself.

    A layer may depend on something that tracing does not show, such as the mask that Keras
    attaches to a tensor. Models without traced layers need no check.

    Raises:
        ModelError: The outputs differ, or the model itself fails on the inputs.
    """
    import tensorflow as tf

    if not found.graph.traced:
        return
    errors = (ValueError, TypeError, tf.errors.OpError)
    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    struct = tree.pack_sequence_as(found.graph.inputs, tensors)
    generators = generators_of(found.model)
    try:
        with same_draws(generators):
            whole = found.model(struct, training=False)
    except errors as error:
        shapes = ", ".join(str(array.shape) for array in inputs)
        raise ModelError(
            f"model {found.model.name!r} fails on random inputs of shapes {shapes}, so it cannot "
            f"be verified ({type(error).__name__}: {_reason(error)}). Pass another input_shape=, "
            "or verify=False"
        ) from error
    try:
        with same_draws(generators):
            unrolled = execute(found.graph, tensors, _run)
    except errors as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"model {found.model.name!r}: its traced operations fail "
            f"({type(error).__name__}: {line[:160]}). Pass input_shape= if sizes of the input are "
            f"open. Traced layers: {_named(found.graph.traced)}"
        ) from error
    limit = CLOSE["float16" if low_precision else "float32"]
    for one, other in zip(tree.flatten(unrolled), tree.flatten(whole), strict=True):
        unrolled_one, expected = map(keras.ops.convert_to_numpy, (one, other))
        other_shape = expected.shape != unrolled_one.shape
        if other_shape or largest_share(expected, unrolled_one) > limit:
            raise ModelError(
                f"model {found.model.name!r}: its traced operations compute something else. "
                f"One of these layers does more than tracing shows: {_named(found.graph.traced)}. "
                "Register a rule for its class with tfprune.rules.register"
            )


def _reason(error: Exception) -> str:
    """Return the line of an error that says why, after Keras's line that says where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = lines[0].startswith("Exception encountered") and len(lines) > 1
    return re.sub(r"\x1b\[\d*m", "", lines[int(raised)])[:160] if lines else ""


def generators_of(op: Any) -> list[Any]:
    """Return the seed generators of an operation or model, with those of all layers in it."""
    layers = all_layers(op) if isinstance(op, keras.Layer) else ()
    return [one for layer in layers for one in own_seed_generators(layer)]


def same_draws(generators: list[Any]) -> keras.StatelessScope:
    """Return a scope in which seed generators draw from their beginning: the same each time."""
    mapping = [(one.state, keras.ops.zeros_like(one.state.value)) for one in generators]
    return keras.StatelessScope(state_mapping=mapping)


def _run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return perform(call.op, args, kwargs)


def _named(traced: list[Any]) -> str:
    more = f" and {len(traced) - 5} more" if len(traced) > 5 else ""
    return ", ".join(traced[:5]) + more
