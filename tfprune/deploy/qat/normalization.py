"""BatchNormalization that no layer before it can take in, as an int8 file computes it best."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tfprune")
class QuantisedBatchNormalization(keras.layers.BatchNormalization):
    """A BatchNormalization layer that becomes one depthwise convolution of the file.

    Written as Keras writes it, it would be a product and a sum with a vector each, which have one
    scale for all channels, and a rounded tensor between the two. As a depthwise convolution of one
    place each channel has a scale of its own, so that its one weight is exact, and the shift is a
    bias of 32 bits: only what it gives is rounded.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return what the plain layer gives; of more than four axes as the plain layer does it."""
        rank = len(inputs.shape)
        if rank > 4 or (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        variance = ops.convert_to_tensor(self.moving_variance)
        factor = ops.rsqrt(variance + self.epsilon)
        if self.scale:
            factor = factor * ops.convert_to_tensor(self.gamma)
        shift = -ops.convert_to_tensor(self.moving_mean) * factor
        if self.center:
            shift = shift + ops.convert_to_tensor(self.beta)
        outputs = ops.cast(inputs, factor.dtype)
        last = self.axis in (-1, rank - 1)
        outputs = outputs if last else ops.moveaxis(outputs, self.axis, -1)
        added = tuple(range(1, 5 - rank))
        outputs = ops.expand_dims(outputs, added) if added else outputs
        kernel = ops.reshape(factor, (1, 1, -1, 1))
        outputs = ops.depthwise_conv(outputs, kernel, data_format="channels_last")
        outputs = ops.add(outputs, shift)
        outputs = ops.squeeze(outputs, added) if added else outputs
        outputs = outputs if last else ops.moveaxis(outputs, -1, self.axis)
        return ops.cast(outputs, self.compute_dtype)

    def take(self, values: Sequence[np.ndarray], keep_zeros: bool) -> None:
        """Set the weights from those of the plain layer."""
        self.set_weights(list(values))

    def plain(self) -> list[np.ndarray]:
        """Return the weights of the plain layer."""
        return self.get_weights()
