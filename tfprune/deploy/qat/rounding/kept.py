"""What stays of a weight that trains under rounding: its zeros, and which of it are equal."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from tfprune.deploy.qat.rounding.layer_rounding import WeightRounding
from tfprune.deploy.qat.rounding.ranges import (
    rounded_by_channel,
    rounded_constant,
    rounded_symmetric,
    traced,
)
from tfprune.utils.centroids import distinct, nearest, settled

T = TypeVar("T")

# Int8 has few more values, so that sharing more would save nothing.
_MOST = 256
# Of the factors of channels, relative to the largest.
_SMALLEST = 1e-4
# Weights; the converter computes nothing from inputs of more than 128 MiB.
_MOST_FOLDED = 2**24


@dataclass(frozen=True)
class Groups:
    """Which weights of a kernel are equal.

    Attributes:
        index: The number of each weight's group.
        count: The number of groups.
        by_channel: Whether each is of one channel.
    """

    index: NDArray[np.int32]
    count: int
    by_channel: bool = False


def groups_of(kernel: NDArray, channel: int | None) -> Groups | None:
    """Return the groups of equal weights, in the kernel or in each channel; None if it has none.

    Weights share values if there are at most half as many values as weights, zeros apart.

    Args:
        kernel: The weights.
        channel: The axis of channels that may have values of their own.
    """
    if kernel.ndim < 2 or kernel.dtype.kind != "f":
        return None
    parts = [kernel[None]] if channel is None else [kernel[None], np.moveaxis(kernel, channel, 0)]
    for rows in parts:
        numbers, count = np.empty(rows.shape, np.int32), 0
        for row, number in zip(rows, numbers, strict=True):
            if np.unique(row.ravel()[: 2 * _MOST]).size > _MOST:
                break  # without sorting a large kernel
            values, index = np.unique(row + 0.0, return_inverse=True)
            several = np.count_nonzero(values) <= np.count_nonzero(row) // 2
            if values.size > _MOST or not several:
                break
            number[:] = index.reshape(row.shape) + count
            count += values.size
        else:
            if count == len(rows):
                return None  # constants, as before training
            if rows is parts[0]:
                return Groups(numbers[0], count)
            return Groups(np.moveaxis(numbers, 0, channel or 0), count, by_channel=True)
    return None


class Kept:
    """The variables in which a layer remembers what stays of one of its weights.

    Where the mask is 0, the weight and its gradient are zero. Weights of a group are equal, but for
    the factor of their channel, and take the same steps. Such a kernel is rounded with one scale,
    times that factor: so it has no more integers in the file than groups.

    Args:
        layer: The layer.
        shape: The shape of the weight.
        axes: The axes over which a channel of its own scale extends.
        groups: The number of groups of equal weights, 0 if weights are free.
        rounding: How the weight is rounded; None: as every kernel is.
    """

    def __init__(
        self,
        layer: Any,
        shape: Sequence[int],
        axes: Sequence[int],
        groups: int,
        rounding: WeightRounding | None = None,
    ) -> None:
        self.rounding = rounding or WeightRounding()
        options: dict[str, Any] = {"trainable": False, "autocast": False}
        if self.rounding.per_channel is not None:
            axes = range(len(shape) - self.rounding.per_channel)
        change = self.rounding.change
        self.changing = {} if change is None else change.build(shape, "changed", layer) or {}
        self.groups, self.axes = groups, tuple(axes)
        several = len(shape) - len(axes)
        if several > 1:  # of a depthwise kernel, each channel of which has few weights
            groups = self.groups = 0
        self.mask = layer.add_weight(name="mask", shape=shape, initializer="ones", **options)
        self.index: Any = None
        self.factor: Any = None
        if groups:
            options |= {"initializer": "zeros", "dtype": "int32"}
            self.index = layer.add_weight(name="index", shape=shape, **options)
        if groups and several:
            sizes = [1 if axis in axes else size for axis, size in enumerate(shape)]
            options |= {"initializer": "ones", "dtype": "float32"}
            self.factor = layer.add_weight(name="factor", shape=sizes, **options)

    def value(self, raw: Any, training: bool | None = False) -> Any:
        """Return a weight with its zeros and equal values, changed as its rounding says."""
        value = ops.multiply(raw, ops.cast(self.mask, raw.dtype))
        if self.rounding.change is not None:
            value = self.rounding.change(value, training, self.changing)
        if self.index is None:
            return value
        index = ops.convert_to_tensor(self.index)
        factor = 1.0 if self.factor is None else ops.cast(self.factor, raw.dtype)
        factor = ops.ones_like(value) * factor
        # The common value that is nearest to all weights of a group.
        sums, squares = (
            tf.math.unsorted_segment_sum(part, index, self.groups)
            for part in (value * factor, factor * factor)
        )
        return ops.multiply(tf.gather(tf.math.divide_no_nan(sums, squares), index), factor)

    def rounded(self, raw: Any, variable: Any, training: bool | None = False) -> Any:
        """Return a weight as the file stores it.

        Args:
            raw: The value of its variable.
            variable: The variable.
            training: Whether the model trains.
        """
        bits = self.rounding.bits
        if traced() and (
            self.index is not None
            or self.rounding != WeightRounding()
            or math.prod(variable.shape) > _MOST_FOLDED
        ):
            # The converter may not fold what is computed, so that it is given the result.
            with tf.init_scope():
                value = self.value(ops.convert_to_tensor(variable)).numpy()
                factor = None if self.factor is None else np.array(self.factor)
            if factor is None:
                return rounded_constant(value, self.axes, bits)
            return rounded_by_channel(value, factor, bits)
        value = self.value(raw, training)
        if self.factor is not None:
            return rounded_by_channel(value, ops.convert_to_tensor(self.factor), bits)
        return rounded_symmetric(value, self.axes, bits)

    def take(self, value: NDArray, keep_zeros: bool, shared: "Shared | None") -> NDArray:
        """Set what stays from a weight as it is now, and return that weight."""
        self.mask.assign((value != 0) if keep_zeros else np.ones_like(value))
        if self.index is None or shared is None:
            return value
        factor = np.ones([1] * value.ndim, value.dtype)
        if self.factor is not None:
            factor = np.broadcast_to(np.abs(shared.factor), self.factor.shape)
            if shared.groups.by_channel and self.factor.shape[-1] > 1:
                factor = np.abs(value).max(axis=self.axes, keepdims=True)
            # Beside the others such a channel is nearly zero, but its bias has its scale.
            factor = np.maximum(factor, _SMALLEST * factor.max())
            self.factor.assign(factor)
        index, values = shared.placed(value, factor)
        self.index.assign(index)
        return np.asarray(values * factor, value.dtype)


@dataclass(frozen=True)
class Shared:
    """Groups of a kernel whose channels have been multiplied, as by folding.

    Attributes:
        groups: The groups, of before.
        factor: What the channels were multiplied by.
    """

    groups: Groups
    factor: NDArray

    def placed(self, value: NDArray, factor: NDArray) -> tuple[NDArray, NDArray]:
        """Return each weight's group and its value without the factor of its channel.

        A channel with a negative factor has negative values: then the groups are made anew.
        """
        index = self.groups.index
        plain = np.divide(value, factor, out=np.zeros_like(value), where=factor != 0)
        if self.groups.by_channel or (self.factor >= 0).all():
            return index, plain
        flat = np.sort(plain.ravel()).astype(np.float64)
        # As many as before, spread over the values of now.
        first = np.quantile(distinct(flat), np.linspace(0, 1, self.groups.count))
        centers = settled(flat, first)
        if (flat == 0).any():
            centers[np.argmin(np.abs(centers))] = 0
        index = nearest(plain.reshape(1, -1), centers[None])[0].reshape(plain.shape)
        return index, centers[index]


def shared_of(values: Sequence[NDArray], channel: int | None) -> list[Shared | None]:
    """Return the groups of each weight of a layer, None for those that share no values."""
    found = (groups_of(np.asarray(value), channel) for value in values)
    return [None if one is None else Shared(one, np.ones([1] * one.index.ndim)) for one in found]


def multiplied(shared: Shared | None, factor: NDArray) -> Shared | None:
    """Return groups of a kernel whose channels are multiplied by a factor."""
    return None if shared is None else replace(shared, factor=shared.factor * factor)


def counts_of(shared: Sequence[Shared | None]) -> list[int]:
    """Return the number of groups of each weight, 0 for free ones."""
    return [0 if one is None else one.groups.count for one in shared]


def padded(values: Sequence[T], last: T) -> Iterator[T]:
    """Yield what belongs to each weight of a layer, then the last value for ever."""
    return itertools.chain(values, itertools.repeat(last))
