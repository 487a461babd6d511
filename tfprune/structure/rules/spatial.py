"""Pooling, padding, cropping, resizing: they move over space and let channels through."""

import math

import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.read import Call
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes
from tfprune.structure.ids.rule_registry import layers, newer, ops, stop
from tfprune.structure.rules.convolution import channel_axis, no_ids_in_space, replace

# fmt: off
ADAPTIVE = (
    "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D",
)  # Keras 3.14
# fmt: on


@layers(
    kl.MaxPooling1D,
    kl.MaxPooling2D,
    kl.MaxPooling3D,
    kl.AveragePooling1D,
    kl.AveragePooling2D,
    kl.AveragePooling3D,
    kl.ZeroPadding1D,
    kl.ZeroPadding2D,
    kl.ZeroPadding3D,
    kl.Cropping1D,
    kl.Cropping2D,
    kl.Cropping3D,
    kl.UpSampling1D,
    kl.UpSampling2D,
    kl.UpSampling3D,
    kl.Resizing,
    kl.CenterCrop,
    *(kind for name in ADAPTIVE for kind in newer(name)),
)
@ops("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool")
def window(flow: Flow, call: Call) -> Axes:
    """Space changes, channels do not."""
    if len(flow.shape(call.outputs[0])) != len(flow.shape(call.args[0])):
        # Keras 3.15 does so for adaptive pooling with channels last.
        return stop(flow, call, "is said by Keras to give another rank than it has")
    return _over_space(flow, call)


@ops("Resize", "CropImages", "PadImages")
def images(flow: Flow, call: Call) -> Axes:
    """The same for operations on images, which take a single one too."""
    if len(flow.shape(call.args[0])) != 4:
        return stop(flow, call, "takes the batch for the height of one image")
    return _over_space(flow, call)


@ops("ExtractPatches")
def patches(flow: Flow, call: Call) -> Axes:
    """Each channel becomes as many as a patch has places."""
    size = call.op.size
    if len(flow.shape(call.args[0])) != len(size) + 2:
        return stop(flow, call, "takes the batch for the height of one image")
    x = _over_space(flow, call)
    axis = channel_axis(_data_format(call), len(x))
    ids = x[axis]
    return x if ids is None else replace(x, axis, np.tile(ids, math.prod(size)))


def _over_space(flow: Flow, call: Call) -> Axes:
    x = flow.axes(call.args[0])
    return no_ids_in_space(flow, call, x, channel_axis(_data_format(call), len(x)))


def _data_format(call: Call) -> str:
    """Where an operation takes the channels to be; the oldest layers do not say it."""
    if isinstance(call.op, keras.Layer):
        return getattr(call.op, "data_format", "channels_last")
    return call.op.data_format or keras.config.image_data_format()


@layers(
    kl.GlobalAveragePooling1D,
    kl.GlobalAveragePooling2D,
    kl.GlobalAveragePooling3D,
    kl.GlobalMaxPooling1D,
    kl.GlobalMaxPooling2D,
    kl.GlobalMaxPooling3D,
)
def global_pool(flow: Flow, call: Call) -> Axes:
    """Space goes; with `keepdims` it stays as ones."""
    x = flow.axes(call.args[0])
    axis = channel_axis(call.op.data_format, len(x))
    x = no_ids_in_space(flow, call, x, axis)
    return x if call.op.keepdims else (x[0], x[axis])
