"""Quantizers: how the range of a tensor follows the batches, by the names of the toolkit."""

from abc import ABC, abstractmethod
from typing import Any

import tensorflow as tf


class Quantizer(ABC):
    """How a tensor is rounded.

    A subclass of one's own changes a weight before it is rounded to 8 bits, as the file stores it.

    Example:
        >>> class Clipped(Quantizer):
        ...     def build(self, tensor_shape, name, layer):
        ...         return {}
        ...     def __call__(self, inputs, training, weights, **kwargs):
        ...         return tf.clip_by_value(inputs, -1.0, 1.0)
        ...     def get_config(self):
        ...         return {}
    """

    @abstractmethod
    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Return the variables that the quantizer needs, made by `layer.add_weight`."""

    @abstractmethod
    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **kwargs: Any) -> Any:
        """Return a tensor as it is in training; `weights` is what `build` returned."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the class."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Quantizer":
        """Return a quantizer with this config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), *self.get_config().items()))


class _RangeQuantizer(Quantizer):
    """Rounds to the values of a range.

    Args:
        num_bits: The bits of an integer.
        per_axis: Whether each place of the last axis has its own range.
        symmetric: Whether 0 is the middle of the range.
        narrow_range: Whether the smallest integer is left out.
    """

    start = 6.0

    def __init__(self, num_bits: int, per_axis: bool, symmetric: bool, narrow_range: bool) -> None:
        self.num_bits = num_bits
        self.per_axis = per_axis
        self.symmetric = symmetric
        self.narrow_range = narrow_range

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the class."""
        names = ("num_bits", "per_axis", "symmetric", "narrow_range")
        return {name: getattr(self, name) for name in names}

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Return the variables of the limits."""
        shape = (tensor_shape[-1],) if self.per_axis else ()

        def made(end: str, value: float) -> Any:
            def filled(shape: Any, dtype: Any = None, **_: Any) -> Any:
                return tf.fill(shape, tf.constant(value, dtype or "float32"))

            return layer.add_weight(
                name=f"{name}_{end}", shape=shape, initializer=filled, trainable=False
            )

        return {"min_var": made("min", -self.start), "max_var": made("max", self.start)}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **kwargs: Any) -> Any:
        """Return the inputs rounded; in training, the limits follow them."""
        low, high = (tf.convert_to_tensor(weights[name]) for name in ("min_var", "max_var"))
        if training:
            low, high = self.updated(low, high, *self._limits(inputs))
            weights["min_var"].assign(low)
            weights["max_var"].assign(high)
        options = {"num_bits": self.num_bits, "narrow_range": self.narrow_range}
        if self.per_axis:
            rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel
        else:
            rounded = tf.quantization.fake_quant_with_min_max_vars
        return rounded(inputs, low, high, **options)

    def _limits(self, inputs: Any) -> tuple[Any, Any]:
        axes = list(range(len(inputs.shape) - self.per_axis))
        low, high = tf.reduce_min(inputs, axes), tf.reduce_max(inputs, axes)
        if not self.symmetric:
            return tf.minimum(low, 0.0), tf.maximum(high, 0.0)
        count = 1 << self.num_bits
        ratio = -1.0 if self.narrow_range else -(count - 2) / count
        return tf.minimum(low, high / ratio), tf.maximum(high, low * ratio)

    @abstractmethod
    def updated(self, low: Any, high: Any, now_low: Any, now_high: Any) -> tuple[Any, Any]:
        """Return the limits from those of before and those of a batch."""


class LastValueQuantizer(_RangeQuantizer):
    """The range is that of the last batch."""

    def updated(self, low: Any, high: Any, now_low: Any, now_high: Any) -> tuple[Any, Any]:
        """Return the limits of the batch."""
        return now_low, now_high


class MovingAverageQuantizer(_RangeQuantizer):
    """The range follows the batches slowly."""

    def updated(self, low: Any, high: Any, now_low: Any, now_high: Any) -> tuple[Any, Any]:
        """Return limits a thousandth of the way to those of the batch."""
        return 0.999 * low + 0.001 * now_low, 0.999 * high + 0.001 * now_high


class AllValuesQuantizer(_RangeQuantizer):
    """The range has the values of all batches in it."""

    start = 0.0

    def updated(self, low: Any, high: Any, now_low: Any, now_high: Any) -> tuple[Any, Any]:
        """Return the wider limits."""
        return tf.minimum(low, now_low), tf.maximum(high, now_high)


class FixedQuantizer(Quantizer):
    """The range is given.

    Args:
        num_bits: The bits of an integer.
        init_min: The lower limit.
        init_max: The upper limit.
        narrow_range: Whether the smallest integer is left out.
    """

    def __init__(self, num_bits: int, init_min: float, init_max: float, narrow_range: bool) -> None:
        self.num_bits = num_bits
        self.init_min = init_min
        self.init_max = init_max
        self.narrow_range = narrow_range

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the class."""
        names = ("num_bits", "init_min", "init_max", "narrow_range")
        return {name: getattr(self, name) for name in names}

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Return no variables."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **kwargs: Any) -> Any:
        """Return the inputs rounded."""
        return tf.quantization.fake_quant_with_min_max_args(
            inputs, self.init_min, self.init_max, self.num_bits, self.narrow_range
        )
