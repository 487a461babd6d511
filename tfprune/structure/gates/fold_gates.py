"""Folding open gates into the weights of a neighboring layer, without changing the output."""

from dataclasses import replace

import keras
import numpy as np
from keras import layers as kl
from keras import tree

from tfprune.errors import ModelError
from tfprune.graph.graph import Call, Ref
from tfprune.graph.rebuild import Weights
from tfprune.structure.gates.layers import ChannelGate
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import USE, Binding, places
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.repair import LINEAR, TRANSPOSED, source_of

# f(g·x) = g·f(x) for g ≥ 0
HOMOGENEOUS = (keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)

AVERAGES = (
    kl.GlobalAveragePooling1D, kl.GlobalAveragePooling2D, kl.GlobalAveragePooling3D,
    kl.AveragePooling1D, kl.AveragePooling2D, kl.AveragePooling3D,
    kl.Flatten, kl.Dropout, kl.SpatialDropout1D, kl.SpatialDropout2D, kl.SpatialDropout3D,
    kl.ZeroPadding1D, kl.ZeroPadding2D, kl.ZeroPadding3D,
    kl.Cropping1D, kl.Cropping2D, kl.Cropping3D,
    kl.UpSampling1D, kl.UpSampling2D, kl.UpSampling3D,
)  # fmt: skip
"""Layers for which f(g·x) = g·f(x) with a factor g for each unit."""

LARGEST = (
    kl.GlobalMaxPooling1D, kl.GlobalMaxPooling2D, kl.GlobalMaxPooling3D,
    kl.MaxPooling1D, kl.MaxPooling2D, kl.MaxPooling3D,
)  # fmt: skip
"""Layers for which this holds if g ≥ 0."""


def check_gates(found: Units) -> None:
    """Raise unless a model has gates.

    Raises:
        ModelError: It has none.
    """
    if not any(isinstance(call.op, ChannelGate) for call in found.graph.calls):
        raise ModelError(
            f"model {found.model.name!r} has no gates: place some with tfprune.add_gates(model)"
        )


def fold_gates(cut: Cut) -> Cut:
    """Return the cut with open gates folded into the weights; notes name the gates kept."""
    found, kept_mask, result, notes = cut.left, cut.kept_mask, dict(cut.weights), list(cut.notes)
    drop: set[int] = set()
    producers = found.graph.producers()
    for call in found.graph.calls:
        gate = call.op
        if not isinstance(gate, ChannelGate) or id(gate) in drop:
            continue
        values = keras.ops.convert_to_numpy(gate.values())
        ids = found.flow.axes(call.args[0])[gate.axis]
        here = np.ones(len(values), bool) if ids is None else kept_mask[ids]
        if (values[here] == 1).all():
            drop.add(id(gate))
            continue
        before = producers.get(call.args[0].index)
        if found.flow.calls_of(gate) == 1:
            scaled = _scaled(found, result, before, call, values) if before is not None else None
            if scaled is None:
                scaled = _scaled_readers(found, result, call, values)
            if scaled is not None:
                result.update(scaled)
                drop.add(id(gate))
                continue
        notes.append(
            f"{gate.name} kept: its gates cannot be folded into the layer before or after it"
        )
    return replace(cut, weights=result, drop=frozenset(drop), notes=tuple(notes))


def note_if_open(found: Units) -> list[str]:
    """Return a note on how to close gates, if none is closed."""
    gates = {id(call.op): call.op for call in found.graph.calls if isinstance(call.op, ChannelGate)}
    values = np.concatenate(
        [keras.ops.convert_to_numpy(g.values()).ravel() for g in gates.values()]
    )
    if (values == 0).any():
        return []
    kinds = {gate.kind for gate in gates.values()}
    how = (
        "close() them"
        if kinds == {"hard"}
        else "raise penalty= or the learning rate, or train longer"
    )
    return [f"no gate is closed: they are between {values.min():.2g} and {values.max():.2g}; {how}"]


def _scaled(
    found: Units, weights: Weights, before: Call, call: Call, values: np.ndarray
) -> Weights | None:
    """Return the weights of the layer before a gate with the gate multiplied in, or None."""
    layer = before.op
    if found.graph.only_reader(call.args[0]) is not call or found.flow.calls_of(layer) != 1:
        return None
    if isinstance(layer, kl.BatchNormalization):
        arrays = list(weights[id(layer)])
        names = [weight.name for weight in layer.weights]
        if not {"gamma", "beta"} <= set(names):
            return None
        for name in ("gamma", "beta"):
            arrays[names.index(name)] = arrays[names.index(name)] * values
        return {id(layer): arrays}
    if not isinstance(layer, kl.Dense | kl.Conv1D | kl.Conv2D | kl.Conv3D):
        return None
    linear = layer.activation is keras.activations.linear
    if not (linear or (layer.activation in HOMOGENEOUS and (values >= 0).all())):
        return None
    if call.op.axis not in (-1, len(found.flow.shape(call.args[0])) - 1):
        return None
    return {id(layer): [array * values.astype(array.dtype) for array in weights[id(layer)]]}


def _scaled_readers(
    found: Units, weights: Weights, call: Call, values: np.ndarray
) -> Weights | None:
    """Return the weights of all layers after a gate with the gate multiplied in, or None."""
    ids = found.flow.axes(call.outputs[0])[call.op.axis]
    if ids is None or len(np.unique(found.root[ids])) < len(ids):
        return None
    scale = np.ones(found.flow.size)
    scale[found.root[ids]] = values
    result: Weights = {}
    stack = [call.outputs[0]]
    while stack:
        ref = stack.pop()
        readers = [reader for reader in found.graph.calls if ref in reader.inputs]
        if ref in tree.flatten(found.graph.outputs) or not readers:
            return None
        for reader in readers:
            if isinstance(reader.op, AVERAGES) or (
                isinstance(reader.op, LARGEST) and (values >= 0).all()
            ):
                stack.extend(reader.outputs)
                continue
            binding = _used_by(found, reader, ref)
            if binding is None or id(reader.op) in result:
                return None
            arrays = list(weights[id(reader.op)])
            place = places(reader.op)[id(binding.weight)]
            across = [1] * arrays[place].ndim
            across[binding.axis] = -1
            factor = scale[found.root[binding.ids]].reshape(across)
            arrays[place] = arrays[place] * factor.astype(arrays[place].dtype)
            result[id(reader.op)] = arrays
    return result


def _used_by(found: Units, reader: Call, ref: Ref) -> Binding | None:
    """Return the axis of a layer's kernel that a tensor is multiplied with, if it is one only."""
    site = found.flow.sites.get(id(reader.op))
    kinds = (*LINEAR, *TRANSPOSED, kl.EinsumDense)
    if site is None or not isinstance(reader.op, kinds) or found.flow.calls_of(reader.op) != 1:
        return None
    for binding in site.bindings:
        at = source_of(found, reader, binding) if binding.role == USE else None
        if at is not None and binding.ids.ndim == 1 and at[0] == ref:
            return binding
    return None
