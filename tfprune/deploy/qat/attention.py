"""Quantization-aware attention and layer normalization."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfprune.deploy.converter.rewrites.integers import HIDDEN_BELOW
from tfprune.deploy.qat.layers import QuantisedEinsumDense
from tfprune.deploy.qat.rounding.kept import Shared, padded
from tfprune.deploy.qat.rounding.ranges import FIXED_LIMITS, ActivationRange, traced
from tfprune.keras_support.attention_steps import StepwiseAttention, projections_of
from tfprune.keras_support.internals import unlocked


@keras.saving.register_keras_serializable("tfprune")
class QuantisedMultiHeadAttention(StepwiseAttention):
    """A MultiHeadAttention layer that trains under 8-bit weights and activations.

    Its four projections are rounded channel by channel, as the converter does, and so is every
    tensor between them that the file stores.

    Args:
        *args: Arguments of the plain layer.
        clusters: The number of groups of equal weights in each of its weights, 0 for free ones.
        **kwargs: Arguments of the plain layer.
    """

    def __init__(self, *args: Any, clusters: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clusters = tuple(clusters)

    def get_config(self) -> dict[str, Any]:
        """Return the config of the layer."""
        own = {"clusters": list(self.clusters)} if any(self.clusters) else {}
        return {**super().get_config(), **own}

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Create the weights of the layer, the masks, and the ranges of intermediate tensors."""
        super().build(query_shape, value_shape, key_shape)
        counts = padded(self.clusters, 0)
        for dense in projections_of(self):
            # Keras creates these layers itself; their class is changed afterwards.
            dense.__class__ = QuantisedEinsumDense
            with unlocked(dense):
                dense.clusters = tuple(next(counts) for _ in dense.own_variables())
                dense.add_masks()
        # Queries and values are second factors of a matrix product, as Keras writes its equations.
        self.query_range = _range("query_range", about_zero=True)
        self.key_range = _range("key_range")
        self.value_range = _range("value_range", about_zero=True)
        self.product_range = _range("product_range")
        self.score_range = _range("score_range")
        self.context_range = _range("context_range")

    def attend(self, query: Any, key: Any, value: Any, mask: Any, training: Any) -> tuple[Any, Any]:
        """Return the output and the scores, rounded where the file stores a tensor."""
        query = self.query_range(query, training=training)
        key = self.key_range(key, training=training)
        value = self.value_range(value, training=training)
        product = self.product_range(self.dot_products(query, key), training=training)
        scores = self.scaled(product)
        if mask is None:
            scores = self.score_range(scores, training=training)
        else:
            scores = self._hidden(scores, self.shaped_mask(mask, scores), training)
        scores = self.normalized(scores)
        rounded = tf.quantization.fake_quant_with_min_max_args(
            ops.cast(scores, "float32"), *FIXED_LIMITS["softmax"]
        )
        scores = ops.cast(rounded, scores.dtype)
        context = self.combined(self.dropped(scores, training), value)
        context = self.context_range(context, training=training)
        return context, scores

    def _hidden(self, scores: Any, mask: Any, training: bool | None) -> Any:
        """Return the scores rounded, masked ones a little below the range of the others.

        With Keras's -1e9, all others would be rounded to one number.
        """
        scores32 = ops.cast(scores, "float32")
        low, high, seen = self.score_range.limits(scores32, training)
        if not traced():
            low = ops.where(seen > 0, low, ops.stop_gradient(ops.min(scores32)))
        below = low - HIDDEN_BELOW
        scores32 = ops.where(ops.cast(mask, "bool"), scores32, below)
        rounded = tf.quantization.fake_quant_with_min_max_vars(scores32, below, high)
        if not traced():
            rounded = ops.where(seen > 0, rounded, scores32)
        return ops.cast(rounded, scores.dtype)

    def take(
        self, values: Sequence[np.ndarray], keep_zeros: bool, shared: Sequence[Shared | None] = ()
    ) -> None:
        """Set the weights from those of the plain layer."""
        first = 0
        for dense in projections_of(self):
            own = slice(first, first := first + len(dense.own_variables()))
            dense.take(values[own], keep_zeros, shared[own])

    def plain(self) -> list[np.ndarray]:
        """Return the weights of the plain layer."""
        return [value for dense in projections_of(self) for value in dense.plain()]


@keras.saving.register_keras_serializable("tfprune")
class QuantisedLayerNormalization(keras.layers.LayerNormalization):
    """A LayerNormalization layer that rounds every intermediate tensor that the file stores.

    The file has no such operation: it computes mean, variance and the rest in steps, each rounded
    to 8 bits.
    """

    def build(self, input_shape: Any) -> None:
        """Create the weights of the layer and the ranges of intermediate tensors."""
        super().build(input_shape)
        self.mean_range = _range("mean_range")
        self.square_range = _range("square_range")
        self.variance_range = _range("variance_range")
        self.root_range = _range("root_range")
        self.factor_range = _range("factor_range")
        self.scaled_range = _range("scaled_range")
        self.shift_range = _range("shift_range")
        self.offset_range = _range("offset_range")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the inputs normalized.

        With m the mean, v the variance, g and b the weights, f = g / √(v + ε): x·f + (b − m·f).
        """
        x = ops.cast(inputs, "float32")
        shape = [1] * len(x.shape)
        for axis in [self.axis] if isinstance(self.axis, int) else self.axis:
            shape[axis] = x.shape[axis]
        mean = self.mean_range(ops.mean(x, self.axis, keepdims=True), training=training)
        square = self.square_range(ops.square(x - mean), training=training)
        variance = ops.mean(square, self.axis, keepdims=True)
        variance = self.variance_range(variance + self.epsilon, training=training)
        # A variance that is rounded to 0 is 0 in the file too, where its root is limited.
        factor = self.root_range(ops.rsqrt(ops.maximum(variance, self.epsilon)), training=training)
        if self.gamma is not None:
            gamma = ops.reshape(ops.cast(self.gamma, "float32"), shape)
            factor = self.factor_range(factor * gamma, training=training)
        scaled = self.scaled_range(x * factor, training=training)
        shift = self.shift_range(mean * factor, training=training)
        if self.beta is None:
            return ops.cast(scaled - shift, self.compute_dtype)
        beta = ops.reshape(ops.cast(self.beta, "float32"), shape)
        offset = self.offset_range(beta - shift, training=training)
        return ops.cast(scaled + offset, self.compute_dtype)

    def take(
        self, values: Sequence[np.ndarray], keep_zeros: bool, shared: Sequence[Shared | None] = ()
    ) -> None:
        """Set the weights from those of the plain layer; none of them is a kernel."""
        for variable, value in zip(self._own_variables(), values, strict=True):
            variable.assign(value)

    def plain(self) -> list[np.ndarray]:
        """Return the weights of the plain layer."""
        return [np.array(variable) for variable in self._own_variables()]

    def _own_variables(self) -> list[Any]:
        return [variable for variable in (self.gamma, self.beta) if variable is not None]


def _range(name: str, about_zero: bool = False) -> ActivationRange:
    made = ActivationRange(name=name, about_zero=about_zero)
    made.build(())
    return made
