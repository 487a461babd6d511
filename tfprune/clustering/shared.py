"""Shared values that hold while a model trains, applied by the optimizer inside its own step.

As for pruning, this is a constraint on the variable: nothing is wrapped, and the model and its
files stay ordinary. After each update of the optimizer the weights are put on their centroids.

What a weight would be without sharing is kept beside it, as its distance from its centroid. So
weights move with their own gradients, taken at the shared values, and change to another centroid
when that is nearer. A centroid is the mean of its weights, so it moves by the mean of their steps,
and that is k-means carried on while the model trains. tensorflow-model-optimization trains the
centroids as variables of their own, with the summed gradient of their weights, and its centroids
and weights drift apart; with the same steps this loses more accuracy (benchmarks/clustering.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfprune.clustering.centroids import Init, first_centroids
from tfprune.graph.kernels import PrunableKernel, Skipped, variable_beside
from tfprune.sparsity.unheld import Unheld
from tfprune.utils.centroids import distinct, nearest, settled


@dataclass(frozen=True)
class Sharing:
    """The options of one call of `cluster`, and the layers that it leaves."""

    clusters: int
    init: Init
    per_channel: bool
    keep_zeros: bool
    seed: int
    skipped: list[Skipped] = field(default_factory=list)


class SharedValues(keras.constraints.Constraint):
    """Keeps the weights of one variable on a few values.

    Args:
        kernel: The kernel.
        sharing: How its values are shared.
    """

    shares_values = True  # for modules that do not import this class

    def __init__(self, kernel: PrunableKernel, sharing: Sharing) -> None:
        self.kernel, self.sharing = kernel, sharing
        before: Any = kernel.variable.constraint
        self.replaced: Any = before
        self.inner: Any = before.inner if isinstance(before, SharedValues) else before
        value = self._value()
        zeros = sharing.keep_zeros and bool((value == 0).any())
        if isinstance(self.inner, Unheld) and zeros:
            self.inner = None  # they are held from now on
        rows = self.rows(value)
        centroids = first_centroids(
            rows, sharing.clusters, sharing.init, keep_zeros=zeros, seed=sharing.seed
        )
        self.kept = variable_beside(kernel.variable, value != 0, "float32") if zeros else None
        self.centroids = variable_beside(kernel.variable, centroids, "float32")
        self.distance = variable_beside(kernel.variable, np.zeros(kernel.shape), "float32")
        self._put(value)
        kernel.variable.constraint = self

    def __call__(self, w: Any) -> Any:
        value = tf.convert_to_tensor(self.inner(w) if self.inner is not None else w)
        free = tf.cast(value, tf.float32) + self.distance
        if self.kept is not None:
            # Gives +0, where a product would give -0 for negative weights.
            free = tf.math.multiply_no_nan(free, self.kept)
        rows, before = self._tensor_rows(free), tf.convert_to_tensor(self.centroids)
        index = tf.searchsorted((before[:, 1:] + before[:, :-1]) / 2, rows)
        centroids = self._means(rows, index, before)
        self.centroids.assign(centroids)
        shared = self._from_rows(tf.gather(centroids, index, batch_dims=1))
        self.distance.assign(free - shared)
        return tf.cast(shared, value.dtype)

    def _means(self, rows: Any, index: Any, before: Any) -> Any:
        """Return the mean of the weights of each centroid; one without weights stays."""
        several, count = self.centroids.shape
        segments = index + count * tf.range(several)[:, None]
        total = several * count
        sums = tf.math.unsorted_segment_sum(rows, segments, total)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(rows), segments, total)
        means = tf.reshape(tf.math.divide_no_nan(sums, counts), (several, count))
        means = tf.where(tf.reshape(counts, (several, count)) > 0, means, before)
        if self.kept is not None:
            # Whatever weights are near zero: it stays.
            means = tf.where(before == 0, tf.zeros_like(means), means)
        return tf.sort(means)

    def rows(self, array: NDArray) -> NDArray:
        """Return an array of the kernel's shape as rows that share values."""
        axis = self._axis()
        if axis is None:
            return array.reshape(1, -1)
        return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)

    def _tensor_rows(self, tensor: Any) -> Any:
        axis = self._axis()
        if axis is None:
            return tf.reshape(tensor, (1, -1))
        return tf.reshape(tf.transpose(tensor, self._order(axis)), (tensor.shape[axis], -1))

    def _from_rows(self, rows: Any) -> Any:
        axis, shape = self._axis(), self.kernel.shape
        if axis is None:
            return tf.reshape(rows, shape)
        order = self._order(axis)
        return tf.transpose(tf.reshape(rows, [shape[a] for a in order]), np.argsort(order))

    def _order(self, axis: int) -> list[int]:
        return [axis, *(a for a in range(len(self.kernel.shape)) if a != axis)]

    def _axis(self) -> int | None:
        """Return the axis of channels with values of their own; None if the kernel shares all."""
        return channel_axis(self.kernel) if self.sharing.per_channel else None

    def _value(self) -> NDArray:
        return np.asarray(tf.cast(self.kernel.variable.value, tf.float32))

    def _put(self, value: NDArray) -> int:
        """Put weights on their centroids, in the variable; return how many that changes."""
        centroids = np.asarray(self.centroids)
        rows = self.rows(value)
        shared = np.take_along_axis(centroids, nearest(rows, centroids), axis=1)
        found = np.asarray(self._from_rows(tf.constant(shared)))
        if self.kept is not None:
            found = found * np.asarray(self.kept) + 0.0
        changed = int(np.count_nonzero(found != value))
        if changed:
            self.kernel.variable.assign(found)
        self.distance.assign(value - found)
        return changed

    def values(self) -> int:
        """Return the largest number of values that weights share now."""
        return max(distinct(row).size for row in np.sort(self.rows(self._value())))

    def state(self) -> list[NDArray]:
        """Return all that is kept beside the weights."""
        return [np.array(tf.convert_to_tensor(variable)) for variable in self._variables()]

    def set_state(self, arrays: Sequence[NDArray]) -> None:
        """Set what `state` returned."""
        for variable, array in zip(self._variables(), arrays, strict=True):
            variable.assign(array)

    def _variables(self) -> list[Any]:
        return [v for v in (self.kept, self.centroids, self.distance) if v is not None]

    def undo(self) -> None:
        """Restore the previous constraint and the weights of before."""
        self.kernel.variable.assign(self._value() + np.asarray(self.distance))
        self.kernel.variable.constraint = self.replaced

    def release(self) -> int:
        """Remove the constraint; return how many weights did not share values any more.

        Those are put on the nearest ones. An average of weights, or restored ones, may be such.
        """
        value, changed = self._value(), 0
        lost = self.kept is not None and bool(value[np.asarray(self.kept) == 0].any())
        if lost or self.values() > self.sharing.clusters:
            rows = np.sort(self.rows(value))
            pairs = zip(rows, np.asarray(self.centroids), strict=True)
            moved = np.stack([settled(row, before) for row, before in pairs])
            if self.kept is not None:
                zeros = (self.rows(np.asarray(self.kept)) == 0).any(axis=1, keepdims=True)
                smallest = np.abs(moved) == np.abs(moved).min(axis=1, keepdims=True)
                moved[zeros & smallest] = 0
            self.centroids.assign(np.float32(moved))
            changed = self._put(value)
        self.kernel.variable.constraint = self.inner
        return changed


def channel_axis(kernel: PrunableKernel) -> int | None:
    """Return the axis of a convolution's output channels; None for other kernels."""
    outer, _, outputs = kernel.axes
    is_convolution = hasattr(kernel.layer, "kernel_size") and bool(outer)
    return outputs[0] if is_convolution and len(outputs) == 1 else None
