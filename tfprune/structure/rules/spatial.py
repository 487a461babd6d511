"""Pooling, padding, cropping, upsampling: they move over space and let channels through."""

from keras import layers as kl

from tfprune.structure.flow import Axes, Flow
from tfprune.structure.graph import Call
from tfprune.structure.rules.convolution import channel_axis, no_ids_in_space
from tfprune.structure.rules.table import layers


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
)
def window(flow: Flow, call: Call) -> Axes:
    """Space changes, channels do not."""
    x = flow.axes(call.args[0])
    axis = channel_axis(getattr(call.op, "data_format", "channels_last"), len(x))
    return no_ids_in_space(flow, call, x, axis)


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
