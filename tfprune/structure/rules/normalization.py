"""Normalizations: exact over the batch, not exact over the channels."""

import numpy as np
from keras import layers as kl

from tfprune.graph.graph import Call
from tfprune.keras_support.internals import LayerScale
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes
from tfprune.structure.ids.rule_registry import layers, stop
from tfprune.structure.rules.activation import mix


@layers(kl.BatchNormalization)
def batch_normalization(flow: Flow, call: Call) -> Axes:
    """Bind the weights and statistics to the channels; gamma and beta may be absent."""
    layer, site = call.op, flow.site(call.op)
    x = flow.axes(call.args[0])
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        site.bind(getattr(layer, name, None), 0, x[axis], scale=name == "gamma")
    return x


@layers(kl.LayerNormalization, kl.RMSNormalization)
def layer_normalization(flow: Flow, call: Call) -> Axes:
    """Bind the weights, and record that the statistics are over the kept channels."""
    layer, site = call.op, flow.site(call.op)
    x = flow.axes(call.args[0])
    for position, axis in enumerate([layer.axis] if isinstance(layer.axis, int) else layer.axis):
        for weight in layer.weights:
            site.bind(weight, position, x[axis])
        kind = "RMS" if isinstance(layer, kl.RMSNormalization) else "Layer"
        mix(flow, call, x, axis, f"{kind}Normalization takes its statistics over these channels")
    return x


@layers(kl.GroupNormalization)
def group_normalization(flow: Flow, call: Call) -> Axes:
    """Bind the weights; groups keep equal counts, and their statistics change."""
    layer, x = call.op, flow.axes(call.args[0])
    axis, site = layer.axis, flow.site(call.op)
    ids = x[axis]
    for name in ("gamma", "beta"):
        site.bind(getattr(layer, name, None), 0, ids)
    if ids is None:
        return x
    groups = layer.groups
    if groups in (-1, len(ids)):
        site.edit("groups", lambda keep: keep.count(ids))
        return x
    flow.block(ids, groups)
    return mix(flow, call, x, axis, "GroupNormalization takes its statistics over these channels")


@layers(kl.UnitNormalization)
def unit_normalization(flow: Flow, call: Call) -> Axes:
    """Zero removed positions of the input, which leaves the length exact."""
    layer, x = call.op, flow.axes(call.args[0])
    for axis in [layer.axis] if isinstance(layer.axis, int) else list(layer.axis):
        flow.zero_input(call, call.args[0], axis, x[axis])
    return x


@layers(LayerScale)
def layer_scale(flow: Flow, call: Call) -> Axes:
    """Bind one factor for each channel."""
    x = flow.axes(call.args[0])
    site = flow.site(call.op)
    site.bind(call.op.gamma, 0, x[-1])
    if x[-1] is not None:
        ids = x[-1]
        site.edit("projection_dim", lambda keep: keep.count(ids))
    return x


@layers(kl.Rescaling)
def rescaling(flow: Flow, call: Call) -> Axes:
    """Return the axes of the input; freeze them if there is a factor for each channel."""
    x = flow.axes(call.args[0])
    for name in ("scale", "offset"):
        value = getattr(call.op, name)
        if np.ndim(value):
            flow.freeze_axes(x, f"{call.path} has a {name} for each channel")
    return x


@layers(kl.Normalization)
def feature_normalization(flow: Flow, call: Call) -> Axes:
    """Freeze the features of the data, which the statistics belong to."""
    x = flow.axes(call.args[0])
    flow.freeze_axes(x, f"{call.path} holds statistics of the data")
    return x


@layers(kl.PReLU)
def prelu(flow: Flow, call: Call) -> Axes:
    """Bind the slopes to the axes that do not share them."""
    layer, x = call.op, flow.axes(call.args[0])
    for axis in range(1, len(x)):
        if layer.alpha.shape[axis - 1] != 1:
            flow.site(layer).bind(layer.alpha, axis - 1, x[axis])
    return x


@layers(kl.SpectralNormalization)
def spectral_normalization(flow: Flow, call: Call) -> Axes:
    """Freeze all channels: cutting a kernel changes its largest singular value."""
    return stop(flow, call, "divides its kernel by its singular value")
