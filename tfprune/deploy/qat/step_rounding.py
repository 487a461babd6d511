"""The rounding of the operations of a call, one after the other, while it runs."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from tfprune.deploy.converter.rewrites.integers import HIDDEN_BELOW, HIDES
from tfprune.deploy.qat.rounding.ranges import ActivationRange, rounded_symmetric, traced
from tfprune.deploy.qat.stored_steps import JOINS, MOVES, PRODUCTS, Stored, hidden_by
from tfprune.deploy.qat.watched_steps import Step, apart_place, key

_NEARLY_ZERO = 1e-30
# The axes of a kernel for which the file has scales of their own.
_CHANNELS: tuple[tuple[set[str], tuple[int, ...]], ...] = (
    ({"Conv2D", "Conv3D"}, (-1,)),
    ({"DepthwiseConv2dNative"}, (-2, -1)),
    ({"Conv2DBackpropInput", "Conv3DBackpropInputV2"}, (-2,)),
)


class StepRounding:
    """The rounding of the steps of one call.

    Args:
        stored: What the file stores inside the call.
        ranges: The range of each; None where it has no range of its own.
        training: Whether ranges follow the tensors.
    """

    def __init__(
        self,
        stored: Sequence[Stored],
        ranges: Sequence[ActivationRange | None],
        training: bool | None,
    ) -> None:
        self._stored = stored
        self._ranges = ranges
        self._training = training
        self._index = {one.place: index for index, one in enumerate(stored)}
        # Which range each tensor has.
        self._known: dict[Any, int] = {}

    def change(self, step: Step) -> Sequence[Any] | None:
        """Return the outputs of a step as the file stores them; None where they stay."""
        index = self._index.get(step.place)
        if index is None:
            return self._moved(step) if traced() and step.kind in MOVES else None
        stored, first = self._stored[index], step.outputs[0]
        apart = self._index.get(apart_place(step.place))
        if stored.joins is not None:
            return self._for_choice(self._index[stored.joins], step) if traced() else None
        if stored.weight:
            return [as_weight(first, stored.weight)]
        if stored.table:
            first = _as_row(step.inputs[0], first)
        elif stored.hides is not None:
            first = self._visible(index, step.inputs, stored.hides)
        elif apart is not None:
            difference = self._in_range(apart, step.inputs[0] - step.inputs[1])
            first = self._in_range(index, difference * difference)
        elif step.kind in JOINS and traced():
            first = self._in_range(index, self._joined(index, step))
        else:
            if hidden_by(step) is not None:  # (1 - mask) · -1e9, to be added to scores
                first = tf.where(first < HIDES, tf.cast(-2 * HIDDEN_BELOW, first.dtype), first)
            first = self._in_range(index, first)
        self._known[key(first)] = index
        return [first, *step.outputs[1:]]

    def _moved(self, step: Step) -> Sequence[Any] | None:
        """Repeat a range behind a step that only moves numbers.

        The converter refuses another range there, which would belong to the next step.
        """
        known = {self._known[key(one)] for one in step.inputs if key(one) in self._known}
        if len(known) != 1:
            return None
        (index,) = known
        if self._stored[index].table or self._stored[index].hides is not None:
            return None
        outputs = [
            self._in_range(index, one) if one.dtype.is_floating else one for one in step.outputs
        ]
        self._known.update({key(one): index for one in outputs})
        return outputs

    def _joined(self, index: int, step: Step) -> Any:
        """Return the output of a choice of values that all have its range already."""
        values = [
            self._in_range(index, one) if one.dtype.is_floating else one for one in step.inputs
        ]
        kinds = {"Maximum": tf.maximum, "Minimum": tf.minimum, "SelectV2": tf.where}
        return kinds[step.kind](*values)

    def _for_choice(self, index: int, step: Step) -> Sequence[Any]:
        """Return the outputs of a step in the range of the choice that reads them.

        The file cannot choose among values with different ranges.
        """
        first = step.outputs[0]
        if self._stored[index].hides is None:
            first = self._in_range(index, first)
        else:
            low, high, _ = self._made(index).limits(first, False)
            first = tf.quantization.fake_quant_with_min_max_vars(first, low - HIDDEN_BELOW, high)
        self._known[key(first)] = index
        return [first, *step.outputs[1:]]

    def _made(self, index: int) -> ActivationRange:
        made = self._ranges[index]
        if made is None:
            raise ValueError(f"step {index} has no range")
        return made

    def _in_range(self, index: int, tensor: Any) -> Any:
        made, fixed = self._ranges[index], self._stored[index].fixed
        if made is not None:
            return made.call(tensor, training=self._training)
        rounded = tf.quantization.fake_quant_with_min_max_args(
            ops.cast(tensor, "float32"), *(fixed or ())
        )
        return ops.cast(rounded, tensor.dtype)

    def _visible(self, index: int, inputs: Sequence[Any], hides: int) -> Any:
        """Return selected scores, hidden ones a little below the range of the others."""
        scores = ops.cast(inputs[3 - hides], "float32")
        low, high, seen = self._made(index).limits(scores, self._training)
        if not traced():
            low = ops.where(seen > 0, low, ops.stop_gradient(ops.min(scores)))
        below = low - HIDDEN_BELOW
        rounded = tf.quantization.fake_quant_with_min_max_vars(scores, below, high)
        if not traced():
            rounded = ops.where(seen > 0, rounded, scores)
        branches = (rounded, below) if hides == 2 else (below, rounded)
        chosen = tf.where(inputs[0], *branches)
        if traced():
            chosen = tf.quantization.fake_quant_with_min_max_vars(chosen, below, high)
        return ops.cast(chosen, inputs[3 - hides].dtype)


def scaled_axes(weight: Any, uses: Sequence[str]) -> list[int]:
    """Return the axes over which one scale of a weight extends, by what reads it."""
    rank = len(weight.shape)
    channels = next((axes for kinds, axes in _CHANNELS if kinds.intersection(uses)), ())
    return [axis for axis in range(rank) if axis - rank not in channels]


def as_weight(value: Any, uses: Sequence[str]) -> Any:
    """Return what is computed from weights as the file stores it for what reads it."""
    if PRODUCTS.intersection(uses):
        return rounded_symmetric(value, scaled_axes(value, uses))
    return in_own_range(value)


def in_own_range(value: Any) -> Any:
    """Return a weight with the 256 values of its range that the file has for it."""
    value32 = ops.cast(value, "float32")
    rounded = tf.quantization.fake_quant_with_min_max_vars(value32, *_own_limits(value))
    return ops.cast(value32 + ops.stop_gradient(rounded - value32), value.dtype)


def _own_limits(weight: Any) -> tuple[Any, Any]:
    """Return the ends of the range that the file has for a weight."""
    fixed = ops.cast(ops.stop_gradient(weight), "float32")
    return ops.minimum(ops.min(fixed), 0.0), ops.maximum(ops.max(fixed), 1e-6)


def never_trivial(value: Any) -> Any:
    """Return a weight that is nowhere exactly 0 or 1.

    The converter drops a sum with zeros and a product with ones, and with it a range.
    """
    return value * (1.0 + 2.0**-22) + _NEARLY_ZERO


def _as_row(table: Any, rows: Any) -> Any:
    """Return rows of a table as the file stores them: 256 values of its range."""
    rows32 = ops.cast(rows, "float32")
    rounded = tf.quantization.fake_quant_with_min_max_vars(rows32, *_own_limits(table))
    return ops.cast(rounded, rows.dtype)
