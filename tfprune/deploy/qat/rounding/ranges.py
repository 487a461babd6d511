"""The range of a tensor, found in training, and rounding to 256 values of it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from tfprune.deploy.qat.rounding.layer_rounding import RANGES

# The runtime's kernels for these have fixed steps of 1/256 and 1/128.
FIXED_LIMITS = {
    "softmax": (0.0, 255 / 256),
    "sigmoid": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}

# A tensor of a smaller range was always zero.
_ZEROS = 3e-6
# Kernels are taken for at least as large.
_SMALL = 1e-5

# Not empty while a model is traced for the converter.
_TRACING: list[bool] = []
# Not empty while ranges are found without training.
_OBSERVING: list[bool] = []


@contextlib.contextmanager
def traced_for_the_converter() -> Iterator[None]:
    """Use only trained ranges in a `with` block.

    The converter then reads them as the scales of the file.
    """
    _TRACING.append(True)
    try:
        yield
    finally:
        _TRACING.pop()


def traced() -> bool:
    """Return whether the model is being traced for the converter."""
    return bool(_TRACING)


@contextlib.contextmanager
def observing() -> Iterator[None]:
    """Find ranges in a `with` block as training does, while nothing else is as in training."""
    _OBSERVING.append(True)
    try:
        yield
    finally:
        _OBSERVING.pop()


def rounded_symmetric(kernel: Any, axes: Sequence[int] | None, bits: int = 8) -> Any:
    """Return a kernel as the file stores it: symmetric, with a scale for each channel.

    Args:
        kernel: The weights.
        axes: The axes over which the maximum of a channel is taken; all axes give one scale for
            the tensor. None: one scale, which the converter finds too.
        bits: The bits of an integer.
    """
    most = 2 ** (bits - 1) - 1
    if traced() and axes is not None and len(axes) == len(kernel.shape):
        # The converter would use a scale for each channel; this gives it the single one.
        largest = _usable(ops.max(ops.abs(kernel)))
        return tf.quantization.fake_quant_with_min_max_vars(
            kernel, -largest, largest, num_bits=bits, narrow_range=True
        )
    axes = range(len(kernel.shape)) if axes is None else axes
    kernel32 = ops.cast(kernel, "float32")
    largest = ops.max(ops.abs(kernel32), axis=tuple(axes), keepdims=True)
    if traced() and bits < 8:  # the converter would use 8
        return _of_channels(kernel32, largest, len(kernel.shape) - len(axes), bits)
    scale = ops.stop_gradient(_usable(largest) / most)
    # Straight-through estimator: the gradient ignores the rounding.
    rounded = kernel32 + ops.stop_gradient(ops.round(kernel32 / scale) * scale - kernel32)
    return ops.cast(rounded, kernel.dtype)


def _usable(largest: Any) -> Any:
    """Return the largest weights of channels with numbers that make scales in place of zeros.

    A bias is stored in steps of the scales of input and kernel: with that of a kernel of zeros, it
    would not fit into 32 bits.
    """
    return ops.where(largest == 0, ops.ones_like(largest), ops.maximum(largest, _SMALL))


def _of_channels(kernel: Any, largest: Any, channels: int, bits: int) -> Any:
    """Return a kernel whose last axes are those of channels, with their ranges."""
    limit = ops.reshape(_usable(largest), (-1,))
    flat = ops.reshape(kernel, (*kernel.shape[:-channels], -1))
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        flat, -limit, limit, num_bits=bits, narrow_range=True
    )
    return ops.reshape(rounded, kernel.shape)


def rounded_constant(kernel: NDArray, axes: Sequence[int], bits: int = 8) -> Any:
    """Return a kernel for the converter as `rounded_symmetric` does, with nothing left to fold."""
    kernel = np.asarray(kernel, np.float32)
    largest = np.abs(kernel).max(axis=tuple(axes), keepdims=True)
    largest = np.where(largest == 0, 1, np.maximum(largest, _SMALL)).astype(np.float32)
    if largest.size == 1:
        limit = float(largest.item())
        return tf.quantization.fake_quant_with_min_max_args(
            tf.constant(kernel), -limit, limit, num_bits=bits, narrow_range=True
        )
    if bits < 8:
        return _of_channels(tf.constant(kernel), largest, kernel.ndim - len(axes), bits)
    scale = largest / (2 ** (bits - 1) - 1)
    return tf.constant(np.round(kernel / scale) * scale)


def rounded_by_channel(kernel: Any, factor: Any, bits: int = 8) -> Any:
    """Return a kernel as the file stores it: one scale times the factor of each channel.

    Args:
        kernel: The weights; an array while the model is traced for the converter.
        factor: The factors, broadcast to the weights; likewise.
        bits: The bits of an integer.
    """
    if traced():
        # The converter would use the largest weight of each channel.
        kernel32 = np.asarray(kernel, np.float32)
        limit = (np.abs(kernel32 / factor).max() or 1.0) * factor
        if limit.shape[-1] == 1:  # of a transposed convolution, whose channels have one scale
            scalar = float(limit.max())
            return tf.quantization.fake_quant_with_min_max_args(
                tf.constant(kernel32), -scalar, scalar, num_bits=bits, narrow_range=True
            )
        limit = np.float32(limit).reshape(-1)
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            tf.constant(kernel32),
            tf.constant(-limit),
            tf.constant(limit),
            num_bits=bits,
            narrow_range=True,
        )
    kernel32 = ops.cast(kernel, "float32")
    plain = tf.math.divide_no_nan(kernel32, ops.broadcast_to(factor, kernel.shape))
    scale = ops.maximum(ops.max(ops.abs(plain)), 1e-12) * ops.maximum(factor, 1e-12)
    scale = scale / (2 ** (bits - 1) - 1)
    scale = ops.stop_gradient(scale)
    rounded = kernel32 + ops.stop_gradient(ops.round(kernel32 / scale) * scale - kernel32)
    return ops.cast(rounded, kernel.dtype)


@keras.saving.register_keras_serializable("tfprune")
class ActivationRange(keras.layers.Layer):
    """Rounds a tensor to 256 values between the smallest and largest seen in training.

    The limits widen at once and narrow slowly: the converter uses the widest range in the
    calibration data, so values clipped in training would reappear in the file. Before the first
    batch the layer changes nothing. Called several times, it is one range for several tensors.

    Args:
        momentum: Decay of the limits when they narrow: the weight of the past at each call. None:
            that of the kind.
        about_zero: Whether 0 is the middle of the 256 values, as in the second factor of a matrix
            product.
        fixed: Fixed limits, whatever training finds.
        kind: How the limits follow, of `RANGES`.
        tensors: The number of tensors with this range.
        floats: Names of the layers of its model that compute in floats, also in the file.
        prefix: What the names of the rounded layers of its model begin with.
    """

    def __init__(
        self,
        momentum: float | None = None,
        about_zero: bool = False,
        fixed: Sequence[float] | None = None,
        kind: str = "widening",
        tensors: int = 1,
        floats: Sequence[str] = (),
        prefix: str = "",
        **kwargs: Any,
    ) -> None:
        # The output has the type of the input.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        past, self.widens = RANGES[kind]
        self.kind = kind
        self.momentum = past ** (1 / tensors) if momentum is None else momentum
        self.about_zero = about_zero
        self.fixed = None if fixed is None else tuple(fixed)
        self.floats = tuple(floats)
        self.prefix = prefix

    def build(self, input_shape: Any) -> None:
        """Create the limits and the count of batches."""
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
        if not (traced() or training or _OBSERVING):  # with these, something has been seen
            rounded = ops.where(seen > 0, rounded, inputs32)
        return ops.cast(rounded, inputs.dtype)

    def limits(self, inputs32: Any, training: bool | None) -> tuple[Any, Any, Any]:
        """Return the limits and the count of tensors, updated with this tensor."""
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        seen = ops.convert_to_tensor(self.seen)
        if training or _OBSERVING:
            now = ops.stop_gradient(inputs32)
            lowest = ops.minimum(ops.min(now), 0.0)
            highest = ops.maximum(ops.max(now), 0.0)
            low = self.momentum * low + (1.0 - self.momentum) * lowest
            high = self.momentum * high + (1.0 - self.momentum) * highest
            low = ops.where(self.widens or seen == 0, ops.minimum(lowest, low), low)
            high = ops.where(self.widens or seen == 0, ops.maximum(highest, high), high)
            seen = seen + 1.0
            self.low.assign(low)
            self.high.assign(high)
            self.seen.assign(seen)
        if self.fixed is not None:
            return *map(ops.convert_to_tensor, self.fixed), seen
        if self.about_zero:
            high = ops.maximum(-low, high)
            high = ops.where(high < _ZEROS, 1.0, high)
            low = high * (-128 / 127)
        # From 0 to 0, the scale would be too small for the runtime, and for any bias with it.
        return low, ops.where(high - low < _ZEROS, low + 1.0, high), seen

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the config of the layer."""
        own = {"momentum": self.momentum, "about_zero": self.about_zero, "fixed": self.fixed}
        own |= {} if self.kind == "widening" else {"kind": self.kind}
        own |= {"floats": list(self.floats)} if self.floats else {}
        own |= {"prefix": self.prefix} if self.prefix else {}
        return {**super().get_config(), **own}
