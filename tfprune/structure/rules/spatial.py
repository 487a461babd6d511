"""Pooling, padding, cropping and resizing: channels pass through unchanged."""

import math

import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.call_kinds import layers_named
from tfprune.graph.graph import Call
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes
from tfprune.structure.ids.rule_registry import layers, newer, ops, stop
from tfprune.structure.rules.convolution import channel_axis, no_ids_in_space, replace


@layers(
    *layers_named("MaxPooling#D AveragePooling#D ZeroPadding#D Cropping#D UpSampling#D"),
    *newer("AdaptiveAveragePooling#D AdaptiveMaxPooling#D"),  # Keras 3.14
    kl.Resizing,
    kl.CenterCrop,
)
@ops("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool")
def window(flow: Flow, call: Call) -> Axes:
    """Propagate the channels; freeze the spatial axes."""
    if len(flow.shape(call.outputs[0])) != len(flow.shape(call.args[0])):
        # In Keras 3.15, adaptive pooling with channels last.
        return stop(flow, call, "has another output rank than Keras infers")
    return _over_space(flow, call)


@ops("Resize", "CropImages", "PadImages")
def images(flow: Flow, call: Call) -> Axes:
    """Propagate through operations on images, which may also be given a single image."""
    if len(flow.shape(call.args[0])) != 4:
        return stop(flow, call, "treats the batch as the height of one image")
    return _over_space(flow, call)


@ops("ExtractPatches")
def patches(flow: Flow, call: Call) -> Axes:
    """Repeat each channel for every position of a patch."""
    size = call.op.size
    if len(flow.shape(call.args[0])) != len(size) + 2:
        return stop(flow, call, "treats the batch as the height of one image")
    x = _over_space(flow, call)
    axis = channel_axis(_data_format(call), len(x))
    ids = x[axis]
    return x if ids is None else replace(x, axis, np.tile(ids, math.prod(size)))


def _over_space(flow: Flow, call: Call) -> Axes:
    x = flow.axes(call.args[0])
    return no_ids_in_space(flow, call, x, channel_axis(_data_format(call), len(x)))


def _data_format(call: Call) -> str:
    """Return the data format of an operation; some layers have no attribute for it."""
    if isinstance(call.op, keras.Layer):
        return getattr(call.op, "data_format", "channels_last")
    return call.op.data_format or keras.config.image_data_format()


@layers(*layers_named("GlobalAveragePooling#D GlobalMaxPooling#D"))
def global_pool(flow: Flow, call: Call) -> Axes:
    """Remove the spatial axes, or keep them as ones with `keepdims`."""
    x = flow.axes(call.args[0])
    axis = channel_axis(call.op.data_format, len(x))
    x = no_ids_in_space(flow, call, x, axis)
    return x if call.op.keepdims else (x[0], x[axis])
