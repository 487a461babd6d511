"""Keras layers that train under the rounding that an int8 file will do."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops


class _QuantisedKernel:
    """Gives its `kernel` as it will be stored: 8 bits, symmetric, a scale for each channel.

    The gradient passes the rounding as if it were not there. Where the mask is 0 neither the
    kernel nor its gradient gets through, so that zeros stay.
    """

    kernel_axes: ClassVar[tuple[int, ...]]

    def build(self, input_shape: Any) -> None:
        """Make the weights of the layer, and the mask."""
        super().build(input_shape)  # type: ignore[misc]
        raw: Any = self._kernel
        self.mask = self.add_weight(  # type: ignore[attr-defined]
            name="mask", shape=raw.shape, initializer="ones", trainable=False
        )

    @property
    def kernel(self) -> Any:
        """The rounded kernel."""
        kernel = ops.multiply(self._kernel, ops.cast(self.mask, self._kernel.dtype))
        largest = ops.max(ops.abs(kernel), axis=self.kernel_axes, keepdims=True)
        scale = ops.stop_gradient(ops.maximum(largest, 1e-12) / 127.0)
        rounded = ops.round(kernel / scale) * scale
        return kernel + ops.stop_gradient(rounded - kernel)

    @kernel.setter
    def kernel(self, variable: Any) -> None:
        # DepthwiseConv2D keeps its kernel under this name, the others under the other.
        self._kernel = variable

    # Keras's own would save the rounded kernel, and no mask.
    def save_own_variables(self, store: Any) -> None:
        """Save kernel, bias and mask."""
        for i, weight in enumerate(self.weights):  # type: ignore[attr-defined]
            store[str(i)] = np.asarray(weight)

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` saved."""
        for i, weight in enumerate(self.weights):  # type: ignore[attr-defined]
            weight.assign(store[str(i)])


@keras.saving.register_keras_serializable("tfprune")
class QuantisedDense(_QuantisedKernel, keras.layers.Dense):
    """A Dense layer that trains under 8-bit weights."""

    kernel_axes = (0,)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedConv1D(_QuantisedKernel, keras.layers.Conv1D):
    """A Conv1D layer that trains under 8-bit weights."""

    kernel_axes = (0, 1)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedConv2D(_QuantisedKernel, keras.layers.Conv2D):
    """A Conv2D layer that trains under 8-bit weights."""

    kernel_axes = (0, 1, 2)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedDepthwiseConv2D(_QuantisedKernel, keras.layers.DepthwiseConv2D):
    """A DepthwiseConv2D layer that trains under 8-bit weights."""

    kernel_axes = (0, 1)


@keras.saving.register_keras_serializable("tfprune")
class ActivationRange(keras.layers.Layer):
    """Rounds a tensor to 256 values between the smallest and largest that training has shown.

    The limits widen at once and narrow slowly: the converter takes the widest range that it sees
    in the calibration data, and what was cut off in training would come back in the file. Before
    the first batch the layer changes nothing.

    Args:
        momentum: How slowly the limits narrow: the weight of the past at each batch.
    """

    def __init__(self, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum

    def build(self, input_shape: Any) -> None:
        """Make the limits and the count of batches."""
        make = {"shape": (), "initializer": "zeros", "trainable": False}
        self.low = self.add_weight(name="low", **make)
        self.high = self.add_weight(name="high", **make)
        self.seen = self.add_weight(name="seen", **make)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the inputs rounded."""
        inputs32 = ops.cast(inputs, "float32")
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        seen = ops.convert_to_tensor(self.seen)
        if training:
            now = ops.stop_gradient(inputs32)
            lowest = ops.minimum(ops.min(now), 0.0)
            highest = ops.maximum(ops.max(now), 0.0)
            low = ops.minimum(lowest, self.momentum * low + (1.0 - self.momentum) * lowest)
            high = ops.maximum(highest, self.momentum * high + (1.0 - self.momentum) * highest)
            seen = seen + 1.0
            self.low.assign(low)
            self.high.assign(high)
            self.seen.assign(seen)
        top = ops.maximum(high, low + 1e-6)
        rounded = keras.quantizers.fake_quant_with_min_max_vars(inputs32, low, top)
        return ops.cast(ops.where(seen > 0, rounded, inputs32), inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape it was given."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made again from."""
        return {**super().get_config(), "momentum": self.momentum}


QUANTISED: dict[type, type] = {
    keras.layers.Dense: QuantisedDense,
    keras.layers.Conv1D: QuantisedConv1D,
    keras.layers.Conv2D: QuantisedConv2D,
    keras.layers.DepthwiseConv2D: QuantisedDepthwiseConv2D,
}
"""The layer that trains in the place of another."""
