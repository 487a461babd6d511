"""BatchNormalization that cannot be folded, as an int8 file computes it best."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.deploy.qat.rounding.kept import Shared


@keras.saving.register_keras_serializable("tfprune")
class QuantisedBatchNormalization(keras.layers.BatchNormalization):
    """A BatchNormalization layer that becomes one depthwise convolution of the file.

    In Keras's form it would be a product and a sum with one vector each, with one scale for all
    channels, and a rounded tensor between them. As a 1×1 depthwise convolution, each channel has
    its own scale, so its weight is exact, and the shift is a 32-bit bias: only the output is
    rounded.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the output of the plain layer, as a depthwise convolution."""
        rank = len(inputs.shape)
        if training and self.trainable:
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
        sizes, added = ops.shape(outputs), tuple(range(1, 5 - rank))
        outputs = ops.expand_dims(outputs, added) if added else outputs
        outputs = ops.reshape(outputs, (-1, *sizes[-3:])) if rank > 4 else outputs
        kernel = ops.reshape(factor, (1, 1, -1, 1))
        outputs = ops.depthwise_conv(outputs, kernel, data_format="channels_last")
        outputs = ops.add(outputs, shift)
        outputs = ops.squeeze(outputs, added) if added else outputs
        outputs = ops.reshape(outputs, sizes) if rank > 4 else outputs
        outputs = outputs if last else ops.moveaxis(outputs, -1, self.axis)
        return ops.cast(outputs, self.compute_dtype)

    def take(
        self, values: Sequence[np.ndarray], keep_zeros: bool, shared: Sequence[Shared | None] = ()
    ) -> None:
        """Set the weights from those of the plain layer."""
        self.set_weights(list(values))

    def plain(self) -> list[np.ndarray]:
        """Return the weights of the plain layer."""
        return self.get_weights()
