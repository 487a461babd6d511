"""Convolutions: plain, grouped, depthwise, separable, transposed."""

from typing import Any

import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.graph import Call, Ref
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import MAKE, USE, Axes, Ids
from tfprune.structure.ids.rule_registry import layers, ops, stop
from tfprune.structure.rules.activation import activate
from tfprune.structure.rules.reduction import contract


def channel_axis(data_format: str, rank: int) -> int:
    """Return the axis of a tensor's channels."""
    return 1 if data_format == "channels_first" else rank - 1


def replace(axes: Axes, axis: int, ids: Ids | None) -> Axes:
    """Return the axes with one of them replaced."""
    return (*axes[:axis], ids, *axes[axis + 1 :])


def no_ids_in_space(flow: Flow, call: Call, axes: Axes, axis: int) -> Axes:
    """Freeze the ids along the spatial axes of a tensor, over which a window slides."""
    for position, ids in enumerate(axes):
        if position != axis:
            flow.freeze(ids, f"{call.path} slides over this axis")
    return tuple(ids if position == axis else None for position, ids in enumerate(axes))


def _input(flow: Flow, call: Call) -> tuple[Axes, int, Ids | None]:
    """Return the axes of a convolution's input, which of them is that of channels, and its ids."""
    ref = call.args[0]
    axis = channel_axis(call.op.data_format, len(flow.shape(ref)))
    x = no_ids_in_space(flow, call, flow.axes(ref), axis)
    return x, axis, x[axis]


def _output(flow: Flow, call: Call, axes: Axes, out: Ids | None) -> Axes:
    """Bind the bias to the ids of the output, and propagate through the activation."""
    if call.op.use_bias:
        flow.site(call.op).bind(call.op.bias, 0, out)
    return activate(flow, call, call.op.activation, axes)


@layers(kl.Conv1D, kl.Conv2D, kl.Conv3D)
def conv(flow: Flow, call: Call) -> Axes:
    """Bind the kernel of a convolution: plain, grouped, or grouped by channel (as in ConvNeXt)."""
    layer, site = call.op, flow.site(call.op)
    x, axis, ids = _input(flow, call)
    size = flow.shape(call.args[0])[axis]
    groups, kernel = layer.groups, layer.kernel
    if groups > 1 and groups == size and ids is not None:
        each = layer.filters // groups
        out = np.repeat(ids, each)
        site.edit("filters", lambda keep: keep.count(ids) * each)
        site.edit("groups", lambda keep: keep.count(ids))
        site.bind(kernel, -1, out)
    else:
        out = site.make("filters", layer.filters)
        if groups == 1:
            site.bind(kernel, -2, ids, USE)
        else:
            flow.block(out, groups)
            if groups == layer.filters:
                flow.freeze(out, f"{call.path} has a single filter in each of its groups")
            if ids is not None:
                flow.block(ids, groups)
                site.bind(kernel, -2, ids.reshape(groups, -1), USE, along=out)
        site.bind(kernel, -1, out, MAKE)
    return _output(flow, call, replace(x, axis, out), out)


@layers(kl.DepthwiseConv1D, kl.DepthwiseConv2D)
def depthwise(flow: Flow, call: Call) -> Axes:
    """Bind the kernel to the input's ids; output position c·m + j belongs to input channel c."""
    layer, site = call.op, flow.site(call.op)
    x, axis, ids = _input(flow, call)
    out = None if ids is None else np.repeat(ids, layer.depth_multiplier)
    if ids is None:
        flow.keep_whole(call, f"{call.path} outputs its input channels, which are frozen")
    site.bind(layer.kernel, -2, ids)
    return _output(flow, call, replace(x, axis, out), out)


@layers(kl.SeparableConv1D, kl.SeparableConv2D)
def separable(flow: Flow, call: Call) -> Axes:
    """Bind the depthwise kernel to the input's ids, and make new ids with the pointwise one."""
    layer, site = call.op, flow.site(call.op)
    x, axis, ids = _input(flow, call)
    middle = None if ids is None else np.repeat(ids, layer.depth_multiplier)
    out = site.make("filters", layer.filters)
    site.bind(layer.depthwise_kernel, -2, ids)
    site.bind(layer.pointwise_kernel, -2, middle, USE)
    site.bind(layer.pointwise_kernel, -1, out, MAKE)
    return _output(flow, call, replace(x, axis, out), out)


@layers(kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
def transposed(flow: Flow, call: Call) -> Axes:
    """Bind a transposed convolution's kernel, of shape (taps, outputs, inputs)."""
    layer, site = call.op, flow.site(call.op)
    x, axis, ids = _input(flow, call)
    out = site.make("filters", layer.filters)
    site.bind(layer.kernel, -1, ids, USE)
    site.bind(layer.kernel, -2, out, MAKE)
    return _output(flow, call, replace(x, axis, out), out)


@ops("Conv", "DepthwiseConv", "ConvTranspose")
def with_kernel(flow: Flow, call: Call) -> Axes:
    """Contract channels with a kernel that is computed, such as a normalized weight."""
    inputs, kernel = _two(call)
    if not isinstance(kernel, Ref):
        return stop(flow, call, "multiplies with a kernel that belongs to no layer")
    kind, taps = type(call.op).__name__, flow.axes(kernel)
    form = call.op.data_format or keras.config.image_data_format()
    axis = channel_axis(form, len(flow.shape(inputs)))
    takes, gives = (-1, -2) if kind == "ConvTranspose" else (-2, -1)
    if flow.shape(inputs)[axis] != flow.shape(kernel)[takes]:
        return stop(flow, call, "multiplies in groups with a kernel that is computed")
    x = no_ids_in_space(flow, call, flow.axes(inputs), axis)
    flow.freeze_axes(taps[:-2], f"{call.path} slides along this axis")
    if kind != "DepthwiseConv":
        contract(flow, call, inputs, kernel, [(axis, len(taps) + takes)])
        return replace(x, axis, taps[gives])
    flow.freeze(taps[-1], f"{call.path} repeats its channels")
    why = f"{call.path} multiplies this with frozen channels"
    both = flow.join(x[axis], taps[-2], why)
    multiplier = flow.shape(kernel)[-1] or 1
    return replace(x, axis, None if both is None else np.repeat(both, multiplier))


def _two(call: Call) -> tuple[Any, Any]:
    """Return the input and the kernel of an operation of `keras.ops`."""
    given = dict(zip(("inputs", "kernel"), call.args, strict=False))
    given.update(call.kwargs)
    return given["inputs"], given["kernel"]
