"""Elementwise operations on one tensor or several."""

from typing import Any

import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.call_kinds import layers_named, names_of
from tfprune.graph.graph import Call, Ref
from tfprune.keras_support.internals import CustomScaleLayer, StochasticDepth
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes, Keep
from tfprune.structure.ids.rule_registry import layers, ops
from tfprune.structure.rules.activation import activate, mix

UNARY = names_of("elementwise", "limit")
PASSING = layers_named(
    "Identity Dropout SpatialDropout#D GaussianDropout GaussianNoise AlphaDropout"
)
"""Layers that change nothing in inference."""
BINARY = names_of("combination", "choice", "extreme")


@layers(
    *layers_named("ReLU ELU LeakyReLU ActivityRegularization Masking"), *PASSING, StochasticDepth
)
@ops(*UNARY, elementwise=True)
def same(flow: Flow, call: Call) -> Axes:
    """Return the axes of the input."""
    shape = getattr(call.op, "noise_shape", None)
    x = flow.axes(call.args[0])
    if shape is not None:
        for axis, size in enumerate(shape):
            if size not in (None, 1):
                flow.freeze(x[axis], f"{call.path} has a noise_shape that names this axis's size")
    return x


@layers(kl.Activation)
def activation(flow: Flow, call: Call) -> Axes:
    """Propagate by the function that the layer applies."""
    return activate(flow, call, call.op.activation, flow.axes(call.args[0]))


@layers(kl.Softmax)
@ops("Softmax", "LogSoftmax", "Sparsemax")
def softmax(flow: Flow, call: Call) -> Axes:
    """Record that a softmax mixes its axis: it is normalized over the kept positions."""
    x = flow.axes(call.args[0])
    axis = call.op.axis
    if axis is None:
        flow.freeze_axes(x, f"{call.path} is a softmax over all axes")
        return x
    for one in [axis] if isinstance(axis, int) else axis:
        mix(flow, call, x, one, "softmax over these channels")
    return x


@layers(kl.Add, kl.Subtract, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum)
def merge_layer(flow: Flow, call: Call) -> Axes:
    """Join the inputs as they broadcast; layers insert missing axes after the batch."""
    parts = list(call.args[0])
    rank = max(len(flow.shape(part)) for part in parts)
    if any(len(flow.shape(part)) != rank for part in parts):
        for part in parts:
            flow.freeze_axes(flow.axes(part), f"{call.path} merges tensors of different ranks")
        return (None,) * len(flow.shape(call.outputs[0]))
    return flow.merge(parts, f"{call.path} joins this to something that cannot be removed")


@layers(CustomScaleLayer)
def custom_scale(flow: Flow, call: Call) -> Axes:
    """Join the two inputs of InceptionResNetV2's residual, x + scale·y."""
    return flow.merge(call.args[0], f"{call.path} joins this to something that cannot be removed")


@ops(*BINARY, elementwise=True)
def binary(flow: Flow, call: Call) -> Axes:
    """Join tensors as they broadcast; constants are cut to the kept positions."""
    parts = [*call.args, *call.kwargs.values()]
    if any(isinstance(part, keras.Variable) and part.shape for part in parts):
        for part in parts:
            flow.freeze_axes(
                flow.axes(part), f"{call.path} uses a variable that belongs to no layer"
            )
        return (None,) * len(flow.shape(call.outputs[0]))
    x = flow.merge(parts, f"{call.path} joins this to something that cannot be removed")
    rank = len(flow.shape(call.outputs[0]))
    x = (None,) * (rank - len(x)) + x

    def cut(keep: Keep, spec: Any, value: Any) -> Any:
        return value if isinstance(spec, Ref) else cut_constant(keep, value, x)

    def rewrite(keep: Keep, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        cut_args = [cut(keep, *pair) for pair in zip(call.args, args, strict=True)]
        return tuple(cut_args), {k: cut(keep, call.kwargs[k], v) for k, v in kwargs.items()}

    flow.rewrite(call, rewrite)
    for position, size in enumerate(flow.shape(call.outputs[0])):
        ids = x[position]
        if ids is not None and size is not None and len(ids) != size:
            flow.freeze(ids, f"{call.path} stretches this axis")
            x = (*x[:position], None, *x[position + 1 :])
    return x


def cut_constant(keep: Keep, value: Any, axes: Axes) -> Any:
    """Return a constant that broadcasts against a tensor, without the removed positions."""
    shape = tuple(np.shape(value)) if not isinstance(value, str | type(None)) else ()
    cut = value
    for offset in range(1, len(shape) + 1):
        ids = axes[-offset]
        if ids is None or shape[-offset] == 1 or keep.all(ids):
            continue
        where = np.flatnonzero(keep.mask(ids))
        cut = np.take(np.asarray(cut), where, axis=len(shape) - offset)
    if cut is value or isinstance(value, np.ndarray):
        return cut
    return keras.ops.convert_to_tensor(cut)
