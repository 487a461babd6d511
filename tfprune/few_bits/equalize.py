"""Channels of one tensor with ranges that are alike: cross-layer equalization.

An integer file has one step for all channels of an activation, and one for all weights of an
output. A channel of small range then has few steps. Where a channel's scale is free (see
`channels`), dividing it by

    s = √(r_x / r_w)

moves half of what it is too large, in logarithms, into the weights that read it; r_x is its largest
number on samples, and r_w its largest weight relative to the largest of the same output. A
depthwise kernel has a step for each channel, so that there all of it is moved: s = r_x.

Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction, 2019, where
r_x is the range of the weights before; Xiao et al., SmoothQuant, 2023.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import tree
from numpy.typing import NDArray

from tfprune.few_bits.channels import Channels, Touch, read_channels
from tfprune.graph.inputs import flat_inputs
from tfprune.graph.rebuild import execute, perform

MOST = 64.0
"""How far a scale may be from the typical one of its tensor."""

Assign = Callable[[Any, NDArray], None]


def equalize(model: Any, batches: Iterable[Any], assign: Assign) -> int:
    """Equalize the ranges of a model's channels; its outputs stay as they are.

    Args:
        model: A Keras 3 model.
        batches: Samples as the model takes them.
        assign: Receives each weight and its new value.

    Returns:
        The number of tensors whose channels were scaled.

    Raises:
        ModelError: The model cannot be read.
    """
    channels = read_channels(model)
    root, free = channels.classes()
    readers = [t for t in channels.touches if t.role != "makes" and free[root[t.numbers]].all()]
    if not readers:
        return 0
    ranges = _ranges(channels, readers, batches)
    scales = _scales(root, readers, ranges, channels.size)
    scales[~free[root]] = 1.0
    for variable, value in channels.scaled(scales):
        assign(variable, value)
    return len({touch.ref for touch in readers if touch.ref is not None})


def _ranges(channels: Channels, readers: list[Touch], batches: Iterable[Any]) -> dict[int, NDArray]:
    """Return the largest number of each channel of the tensors that are read."""
    wanted = {touch.ref.index for touch in readers if touch.ref is not None}
    found: dict[int, NDArray] = {}

    def run(call: Any, args: Any, kwargs: Any) -> list[Any]:
        made = tree.flatten(perform(call.op, args, kwargs))
        for ref, value in zip(call.outputs, made, strict=True):
            if ref.index in wanted:
                array = np.abs(keras.ops.convert_to_numpy(value))
                largest = array.reshape(-1, array.shape[-1]).max(axis=0)
                found[ref.index] = np.maximum(largest, found.get(ref.index, 0.0))
        return made

    for batch in batches:
        execute(channels.graph, flat_inputs(channels.graph, batch), run)
    return found


def _scales(root: NDArray, readers: list[Touch], ranges: dict[int, NDArray], size: int) -> NDArray:
    """Return the scale of each channel, alike for those of one class."""
    largest, weight = np.zeros(size), np.zeros(size)
    for touch in readers:
        numbers = root[touch.numbers.ravel()]
        if touch.ref is not None:
            np.maximum.at(largest, numbers, ranges[touch.ref.index])
        else:
            np.maximum.at(largest, numbers, 1.0)
        if touch.role == "sums":
            np.maximum.at(weight, numbers, _shares(touch))
    summed = weight > 0
    scales = np.where(summed, np.sqrt(largest / np.where(summed, weight, 1.0)), largest)
    for touch in readers:  # A dead channel, or one that no weight reads, has the scale of others.
        numbers = root[touch.numbers.ravel()]
        some = scales[numbers][scales[numbers] > 0]
        typical = float(np.exp(np.log(some).mean())) if some.size else 1.0
        mine = np.where(scales[numbers] > 0, scales[numbers], typical)
        scales[numbers] = np.clip(mine, typical / MOST, typical * MOST)
    return scales[root]


def _shares(touch: Touch) -> NDArray:
    """Return the largest weight of each channel relative to the largest of the same output."""
    array = np.abs(touch.variable.value.numpy())
    # Behind the axes of channels are those of outputs, before them those of a window.
    outputs = array.shape[array.ndim - touch.numbers.shape.count(1) :]
    table = array.reshape(-1, touch.numbers.size, int(np.prod(outputs))).max(axis=0)
    widest = table.max(axis=0)
    return np.asarray((table / np.where(widest > 0, widest, 1.0)).max(axis=1))
