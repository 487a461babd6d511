"""Removing what is closed already: the small model computes what the model itself computes."""

from typing import Any

import keras
import numpy as np

from tfprune.errors import ModelError
from tfprune.structure.choice import Choice
from tfprune.structure.closed import closed_units
from tfprune.structure.graph import Call
from tfprune.structure.layers import ChannelGate
from tfprune.structure.oracle import TOLERANCE, drift, has_low_precision
from tfprune.structure.rebuild import Weights, rebuild
from tfprune.structure.trial import random_inputs
from tfprune.structure.units import Units

# f(g·x) = g·f(x) for g ≥ 0
HOMOGENEOUS = (keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)


def sweep(
    found: Units,
    weights: Weights,
    kind: str,
    *,
    whole: Units,
    verify: bool,
    seed: int,
    input_shape: Any,
) -> tuple[Any, dict[int, Any], Choice, float | None]:
    """Remove closed units, and gates where they can be folded into the layer before them.

    Args:
        found: The units of what is left of the model when its dead branches are taken out.
        weights: All weights of the model.
        kind: "zeros" or "gates".
        whole: The units of the model itself.
        verify: Whether to compare the small model with the model itself.
        seed: For the inputs of that.
        input_shape: The shape of the input, where the model leaves it open.

    Returns:
        The small model, its operations by the `id` of the original, what was removed, and how
        far it is from the original (None if that was not asked).

    Raises:
        ModelError: The small model is not what the original is.
    """
    gates = kind == "gates"
    closed = closed_units(found, weights, gates=gates, input_shape=input_shape)
    folded, notes = closed.weights, list(closed.notes)
    drop: set[int] = set()
    alive = found.alive(closed.removed)
    if gates:
        folded, drop, more = fold_gates(found, folded, alive)
        notes += more
    small, ops = rebuild(found, alive, folded, drop=drop)
    error = None
    if verify:
        one, other = found.model, small
        if has_low_precision(found):
            everything = np.ones(whole.flow.size, bool)
            one, _ = rebuild(whole, everything, weights, dtype="float32")
            other, _ = rebuild(found, alive, folded, dtype="float32", drop=drop)
        error = drift(
            found, one, other, random_inputs(found, np.random.default_rng(seed), input_shape)
        )
        if not error <= TOLERANCE:
            raise ModelError(
                f"model {found.model.name!r}: without its closed units it differs from itself by "
                f"{error:.2g} of the output's scale (allowed {TOLERANCE:g}); nothing was returned"
            )
    return small, ops, Choice(closed.removed, tuple(notes)), error


def check_gates(found: Units) -> None:
    """Raise unless a model has gates.

    Raises:
        ModelError: It has none.
    """
    if not any(isinstance(call.op, ChannelGate) for call in found.graph.calls):
        raise ModelError(
            f"model {found.model.name!r} has no gates: place some with tfprune.add_gates(model)"
        )


def fold_gates(
    found: Units, weights: Weights, alive: np.ndarray
) -> tuple[Weights, set[int], list[str]]:
    """The weights with open gates multiplied in, the gates that go, and notes on the others."""
    result, notes = dict(weights), []
    drop: set[int] = set()
    producers = found.graph.producers()
    for call in found.graph.calls:
        gate = call.op
        if not isinstance(gate, ChannelGate) or id(gate) in drop:
            continue
        values = keras.ops.convert_to_numpy(gate.values())
        ids = found.flow.axes(call.args[0])[gate.axis]
        here = np.ones(len(values), bool) if ids is None else alive[ids]
        if (values[here] == 1).all():
            drop.add(id(gate))
            continue
        before = producers.get(call.args[0].index)
        if found.flow.calls_of(gate) == 1 and before is not None and (values[here] >= 0).all():
            scaled = _scaled(found, result, before, call, values)
            if scaled is not None:
                result[id(before.op)] = scaled
                drop.add(id(gate))
                continue
        notes.append(f"{gate.name} stays: its gates cannot be multiplied into the layer before it")
    return result, drop, notes


def _scaled(
    found: Units, weights: Weights, before: Call, call: Call, values: np.ndarray
) -> list[np.ndarray] | None:
    """The weights of the layer before a gate with the gate multiplied in, or None."""
    layer = before.op
    if found.graph.only_reader(call.args[0]) is not call or found.flow.calls_of(layer) != 1:
        return None
    arrays = list(weights[id(layer)])
    names = [weight.name for weight in layer.weights] if isinstance(layer, keras.Layer) else []
    if isinstance(layer, keras.layers.BatchNormalization):
        if not {"gamma", "beta"} <= set(names):
            return None
        for name in ("gamma", "beta"):
            arrays[names.index(name)] = arrays[names.index(name)] * values
        return arrays
    plain = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    transposed = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
    if not isinstance(layer, plain) or isinstance(layer, transposed):
        return None
    if layer.activation not in HOMOGENEOUS or call.op.axis not in (
        -1,
        len(found.flow.shape(call.args[0])) - 1,
    ):
        return None
    return [array * values.astype(array.dtype) for array in arrays]
