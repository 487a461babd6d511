"""The quantization-aware class of each layer, and the folding of BatchNormalization."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfprune.deploy.qat import layers as own
from tfprune.deploy.qat.attention import QuantisedLayerNormalization, QuantisedMultiHeadAttention
from tfprune.deploy.qat.embedding import QuantisedEmbedding
from tfprune.deploy.qat.normalization import QuantisedBatchNormalization
from tfprune.graph.call_kinds import layers_named
from tfprune.utils.einsum import is_product

QUANTIZED: dict[type, Any] = {
    keras.layers.Dense: own.QuantisedDense,
    keras.layers.Conv1D: own.QuantisedConv1D,
    keras.layers.Conv2D: own.QuantisedConv2D,
    keras.layers.DepthwiseConv1D: own.QuantisedDepthwiseConv1D,
    keras.layers.DepthwiseConv2D: own.QuantisedDepthwiseConv2D,
    keras.layers.Conv1DTranspose: own.QuantisedConv1DTranspose,
    keras.layers.Conv2DTranspose: own.QuantisedConv2DTranspose,
    keras.layers.SeparableConv1D: own.QuantisedSeparableConv1D,
    keras.layers.SeparableConv2D: own.QuantisedSeparableConv2D,
    keras.layers.PReLU: own.QuantisedPReLU,
    keras.layers.EinsumDense: own.QuantisedEinsumDense,
    keras.layers.Embedding: QuantisedEmbedding,
    keras.layers.MultiHeadAttention: QuantisedMultiHeadAttention,
    keras.layers.LayerNormalization: QuantisedLayerNormalization,
    keras.layers.BatchNormalization: QuantisedBatchNormalization,
}
"""The quantization-aware class of each Keras layer."""

# BatchNormalization after these is folded into them.
FOLDABLE = layers_named(
    "Dense Conv1D Conv2D DepthwiseConv1D DepthwiseConv2D Conv1DTranspose Conv2DTranspose "
    "SeparableConv1D SeparableConv2D"
)


def kinds_of(layers: Sequence[Any]) -> dict[str, Any]:
    """Return the quantization-aware class of each layer that has one, by name."""
    return {
        layer.name: QUANTIZED[type(layer)]
        for layer in layers
        if type(layer) in QUANTIZED and not _is_apart(layer)
    }


def _is_apart(layer: Any) -> bool:
    """Return whether the class of a layer has a rule that does not apply to this layer."""
    if isinstance(layer, keras.layers.EinsumDense):
        return not is_product(layer.equation)
    if isinstance(layer, keras.layers.LayerNormalization):
        # Of a single number, it is its shift.
        one = layer.weights and all(math.prod(weight.shape) == 1 for weight in layer.weights)
        return bool(one or getattr(layer, "rms_scaling", False))
    return bool(getattr(layer, "rms_scaling", False))


def fold(layer: Any, values: list[np.ndarray], norm: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """Return kernels and bias of a layer with its BatchNormalization folded in, and the factor.

    The last kernel is multiplied by the factor.
    """
    bias = values.pop() if layer.use_bias else 0.0
    weights = {weight.name: np.asarray(weight.numpy(), np.float64) for weight in norm.weights}
    factor = weights.get("gamma", 1.0) / np.sqrt(weights["moving_variance"] + norm.epsilon)
    moved = weights.get("beta", 0.0) + (bias - weights["moving_mean"]) * factor
    # The last kernel of a separable convolution computes the output channels.
    *before, kernel = values
    # The channels of a depthwise kernel are its last two axes, of a transposed one the last but
    # one, of the others the last one.
    if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
        shape = kernel.shape[-2:]
    elif isinstance(layer, _TRANSPOSED):
        shape = (kernel.shape[-2], 1)
    else:
        shape = kernel.shape[-1:]
    factor = np.reshape(factor, shape)
    scaled = (kernel * factor).astype(kernel.dtype)
    return [*before, scaled, np.asarray(moved, kernel.dtype)], factor


_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


def channel_axis(layer: Any) -> int | None:
    """Return the axis, from the last, of the channels of a convolution's kernels; else None."""
    if isinstance(layer, _TRANSPOSED):
        return -2
    return -1 if isinstance(layer, _CONVOLUTIONS) else None
