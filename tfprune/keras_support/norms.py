"""Normalization over a single number, which is its shift alone."""

from collections.abc import Callable
from typing import Any

from keras import ops


def exact_norms(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `LayerNormalization.call` without the rounding errors of a variance of 0.

    A series of one feature is normalized to x · r − x · r with r = 1 / sqrt(epsilon), the root of
    a large number. In integers, the two products differ by more than the shift.
    """

    def call(layer: Any, inputs: Any) -> Any:
        axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis
        if getattr(layer, "rms_scaling", False) or any(inputs.shape[axis] != 1 for axis in axes):
            return plain(layer, inputs)
        # Both weights are read, so that both have gradients.
        factor = 0.0 if layer.gamma is None else 0.0 * ops.convert_to_tensor(layer.gamma)
        shift = 0.0 if layer.beta is None else ops.convert_to_tensor(layer.beta)
        return ops.cast(inputs * factor + shift, layer.compute_dtype)

    return call
