"""The projections and computation steps of Keras's attention layers, under stable names.

With `internals`, the only module that uses private parts of Keras.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True)
class Projections:
    """The layers with the weights of an attention; `gate` is None if there is none."""

    query: Any
    key: Any
    gate: Any
    value: Any
    output: Any

    def __iter__(self) -> Iterator[Any]:
        """Yield the existing projections, in the order of the layer's weights."""
        every = (self.query, self.key, self.gate, self.value, self.output)
        return (one for one in every if one is not None)


def projections_of(attention: Any) -> Projections:
    """Return the projections of a built MultiHeadAttention or GroupQueryAttention.

    3.10 on: `_query_dense`, `_key_dense`, `_value_dense`, `_output_dense`. 3.13 on: `_gate_dense`,
    which a layer without a gate does not have.
    """
    return Projections(
        query=attention._query_dense,
        key=attention._key_dense,
        gate=getattr(attention, "_gate_dense", None),
        value=attention._value_dense,
        output=attention._output_dense,
    )


class StepwiseAttention(keras.layers.MultiHeadAttention):
    """A MultiHeadAttention whose subclass defines the computation between its projections.

    3.10 on: `call` passes the projected tensors to `_compute_attention`, and the steps read
    `_dot_product_equation`, `_combine_equation`, `_inverse_sqrt_key_dim`, `_attention_axes`,
    `_softmax`, `_dropout` and `_dropout_layer`.
    """

    def attend(self, query: Any, key: Any, value: Any, mask: Any, training: Any) -> tuple[Any, Any]:
        """Return the output of attention before its last projection, and its scores."""
        raise NotImplementedError(f"{type(self).__name__} has no attend()")

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
    ) -> tuple[Any, Any]:
        """Return the result of `attend`; Keras calls this method."""
        return self.attend(query, key, value, attention_mask, training)

    def dot_products(self, query: Any, key: Any) -> Any:
        """Return the product of each query with each key."""
        return ops.einsum(self._dot_product_equation, key, query)

    def scaled(self, products: Any) -> Any:
        """Return products divided by the root of the keys' width."""
        return ops.multiply(products, ops.cast(self._inverse_sqrt_key_dim, products.dtype))

    def shaped_mask(self, mask: Any, scores: Any) -> Any:
        """Return a mask with as many axes as scores have."""
        while len(mask.shape) < len(scores.shape):
            mask = ops.expand_dims(mask, axis=-2 * len(self._attention_axes) - 1)
        return mask

    def normalized(self, scores: Any) -> Any:
        """Return scores after softmax; one that files have an operation for, over all axes at once.

        Over several axes, Keras computes it by a logarithm of a sum.
        """
        axes = len(self._attention_axes)
        if axes == 1:
            return self._softmax(scores)
        shape = ops.shape(scores)
        flat = ops.reshape(scores, (*shape[:-axes], -1))
        return ops.reshape(ops.softmax(flat), shape)

    def dropped(self, scores: Any, training: bool | None) -> Any:
        """Return scores after dropout."""
        return self._dropout_layer(scores, training=training) if self._dropout > 0 else scores

    def combined(self, scores: Any, value: Any) -> Any:
        """Return the values weighted by scores."""
        return ops.einsum(self._combine_equation, scores, value)
