"""The range of a tensor, found in training, and the rounding to 256 values of it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

# The runtime's kernels for these give 256ths and 128ths.
FIXED_LIMITS = {
    "softmax": (0.0, 255 / 256),
    "sigmoid": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}

# How slowly a range narrows: the weight of the past at each batch.
MOMENTUM = 0.99

# Set for the time that a model is traced for the converter.
_TRACING: list[bool] = []


@contextlib.contextmanager
def traced_for_the_converter() -> Iterator[None]:
    """Let ranges be those alone that training has found, for the length of a `with` block.

    The converter then reads them as the scales of the file.
    """
    _TRACING.append(True)
    try:
        yield
    finally:
        _TRACING.pop()


def traced() -> bool:
    """Tell whether the converter is to read what is computed now."""
    return bool(_TRACING)


@keras.saving.register_keras_serializable("tfprune")
class ActivationRange(keras.layers.Layer):
    """Rounds a tensor to 256 values between the smallest and largest that training has shown.

    The limits widen at once and narrow slowly: the converter takes the widest range that it sees
    in the calibration data, and what was cut off in training would come back in the file. Before
    the first batch the layer changes nothing. Called several times, it is one range for several
    tensors.

    Args:
        momentum: How slowly the limits narrow: the weight of the past at each call.
        about_zero: Whether 0 is the middle of the 256 values, as in the second factor of a matrix
            product.
        fixed: Limits that are so whatever training shows.
    """

    def __init__(
        self,
        momentum: float = MOMENTUM,
        about_zero: bool = False,
        fixed: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        # It gives the type that it is given.
        super().__init__(autocast=False, **kwargs)
        self.momentum = momentum
        self.about_zero = about_zero
        self.fixed = None if fixed is None else tuple(fixed)

    def build(self, input_shape: Any) -> None:
        """Make the limits and the count of batches."""
        make = {"shape": (), "initializer": "zeros", "trainable": False}
        # In 16 bits a limit has fewer digits than the range has steps.
        make |= {"dtype": "float32", "autocast": False}
        self.low = self.add_weight(name="low", **make)
        self.high = self.add_weight(name="high", **make)
        self.seen = self.add_weight(name="seen", **make)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the inputs rounded."""
        inputs32 = ops.cast(inputs, "float32")
        low, high, seen = self.limits(inputs32, training)
        rounded = tf.quantization.fake_quant_with_min_max_vars(inputs32, low, high)
        if not traced():
            rounded = ops.where(seen > 0, rounded, inputs32)
        return ops.cast(rounded, inputs.dtype)

    def limits(self, inputs32: Any, training: bool | None) -> tuple[Any, Any, Any]:
        """Return the limits and how often they were shown something, after this tensor."""
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
        if self.fixed is not None:
            return *map(ops.convert_to_tensor, self.fixed), seen
        if self.about_zero:
            high = ops.maximum(ops.maximum(-low, high), 1e-6)
            low = high * (-128 / 127)
        return low, ops.maximum(high, low + 1e-6), seen

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape it was given."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made again from."""
        own = {"momentum": self.momentum, "about_zero": self.about_zero, "fixed": self.fixed}
        return {**super().get_config(), **own}
