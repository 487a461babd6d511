"""How a layer multiplies: its inputs as rows, its kernel as matrices, its bias as a row."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tfprune.errors import type_name
from tfprune.few_bits.rows import conv_rows, dense_rows, einsum_rows
from tfprune.graph.kernels import PrunableKernel, Skipped, find_kernels, walk_layers
from tfprune.utils.einsum import letters_of

DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)

Rows = Callable[[NDArray, int, np.random.Generator], NDArray]


@dataclass(frozen=True)
class Linear:
    """A kernel as the matrices that its layer's inputs are multiplied by.

    Args:
        kernel: The kernel.
        rows: `(inputs, limit, rng)` → (products, rows, inputs of a product).
        groups: The number of groups of outputs, each with its own inputs.
        bias: The variable that is added to the products, if it has one number per output.
        bias_order: The axes of (products, outputs), split into the kernel's axes, in the order of
            the bias; None if the order is the same.
    """

    kernel: PrunableKernel
    rows: Rows
    groups: int = 1
    bias: Any = None
    bias_order: tuple[int, ...] | None = None

    def matrices(self, view: NDArray) -> NDArray:
        """Return a kernel's (outer, inputs, outputs) view as (products, inputs, outputs)."""
        if self._own_products:
            return view
        outer, inputs, outputs = view.shape
        split = view.reshape(outer * inputs, self.groups, outputs // self.groups)
        return split.transpose(1, 0, 2)

    def view(self, matrices: NDArray) -> NDArray:
        """Undo `matrices`."""
        if self._own_products:
            return matrices
        outer = math.prod(self.kernel.shape[axis] for axis in self.kernel.axes[0])
        flat = matrices.transpose(1, 0, 2)
        return flat.reshape(outer, flat.shape[0] // outer, -1)

    @property
    def _own_products(self) -> bool:
        return isinstance(self.kernel.layer, (keras.layers.EinsumDense, *DEPTHWISE))

    def shifted_bias(self, shift: NDArray) -> NDArray:
        """Return the bias with (products, outputs) added to it."""
        if self.bias_order is not None:
            made = (*self.kernel.axes[0], *self.kernel.axes[2])
            sizes = [self.kernel.shape[axis] for axis in made]
            shift = shift.reshape(sizes).transpose(self.bias_order)
        bias = self.bias.value.numpy()
        return bias + shift.reshape(bias.shape)


def read_linear(kernel: PrunableKernel) -> Linear | str:
    """Return how a kernel's layer multiplies, or why that is unknown."""
    layer = kernel.layer
    for kind, read in _READERS:
        if isinstance(layer, kind):
            if type(layer).call is not kind.call:
                return f"{type_name(layer)} overrides call, so its products are unknown"
            return read(kernel, layer)
    return f"no rule for the products of a {type_name(layer)}"


def _read_dense(kernel: PrunableKernel, layer: Any) -> Linear | str:
    return Linear(kernel, dense_rows, bias=layer.bias)


def _read_conv(kernel: PrunableKernel, layer: Any) -> Linear | str:
    def rows(inputs: NDArray, limit: int, rng: np.random.Generator) -> NDArray:
        return conv_rows(
            _channels_last(inputs, layer),
            layer.kernel_size,
            layer.strides,
            layer.dilation_rate,
            layer.padding,
            layer.groups,
            limit,
            rng,
        )

    return Linear(kernel, rows, groups=layer.groups, bias=layer.bias)


def _read_depthwise(kernel: PrunableKernel, layer: Any) -> Linear | str:
    """Return a product of its own for each channel; few rows are enough for its few inputs."""

    def rows(inputs: NDArray, limit: int, rng: np.random.Generator) -> NDArray:
        images = _channels_last(inputs, layer)
        return conv_rows(
            images,
            layer.kernel_size,
            layer.strides,
            layer.dilation_rate,
            layer.padding,
            images.shape[-1],
            max(limit // 8, 1),
            rng,
        )

    return Linear(kernel, rows, bias=layer.bias)


def _read_separable(kernel: PrunableKernel, layer: Any) -> Linear | str:
    """Return the product of the pointwise kernel with the output of the depthwise one."""

    def rows(inputs: NDArray, limit: int, rng: np.random.Generator) -> NDArray:
        made = keras.ops.depthwise_conv(
            inputs.astype(np.float32),
            keras.ops.cast(layer.depthwise_kernel, "float32"),
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        return dense_rows(_channels_last(keras.ops.convert_to_numpy(made), layer), limit, rng)

    return Linear(kernel, rows, bias=layer.bias)


def _channels_last(inputs: NDArray, layer: Any) -> NDArray:
    return inputs if layer.data_format == "channels_last" else np.moveaxis(inputs, 1, -1)


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _read_einsum(kernel: PrunableKernel, layer: Any) -> Linear | str:
    equation = layer.equation.replace(" ", "")
    inputs, weights, outputs = letters_of(equation)
    if any(c not in weights + outputs for c in inputs if c != "."):
        return f"the equation {equation!r} sums over an axis that the kernel does not have"
    if any(c not in inputs + outputs for c in weights):
        return f"the equation {equation!r} sums over an axis that only the kernel has"
    outer = "".join(weights[axis] for axis in kernel.axes[0])
    contracted = "".join(weights[axis] for axis in kernel.axes[1])
    made = "".join(weights[axis] for axis in kernel.axes[2])

    def rows(array: NDArray, limit: int, rng: np.random.Generator) -> NDArray:
        free = "".join(c for c in _LETTERS if c not in equation)
        letters = inputs.replace("...", free[: array.ndim - len(inputs.replace("...", ""))])
        return einsum_rows(array, letters, outer, contracted, limit, rng)

    # A bias with an axis of the samples (positions of a sequence), or without an axis of the
    # outputs, does not have one number per output of the matrix product.
    whole = layer.bias is not None and set(layer.bias_axes) == set(outer + made)
    order = tuple((outer + made).index(c) for c in outputs if c in outer + made)
    return Linear(kernel, rows, bias=layer.bias if whole else None, bias_order=order)


_READERS: tuple[tuple[Any, Callable[[PrunableKernel, Any], Linear | str]], ...] = (
    (keras.layers.Dense, _read_dense),
    (keras.layers.EinsumDense, _read_einsum),
    (keras.layers.Conv1D, _read_conv),
    (keras.layers.Conv2D, _read_conv),
    (keras.layers.Conv3D, _read_conv),
    (keras.layers.DepthwiseConv1D, _read_depthwise),
    (keras.layers.DepthwiseConv2D, _read_depthwise),
    (keras.layers.SeparableConv1D, _read_separable),
    (keras.layers.SeparableConv2D, _read_separable),
)


def roundable_kernels(roots: Sequence[Any]) -> tuple[list[PrunableKernel], list[Skipped]]:
    """Return the kernels below some models with those of depthwise convolutions."""
    kernels, skipped = find_kernels(roots)
    layers = [layer for layer in walk_layers(roots) if isinstance(layer, DEPTHWISE)]
    names = {layer.name for layer in layers}
    for layer in layers:
        rank = len(layer.kernel.shape)
        axes = (rank - 2,), tuple(range(rank - 2)), (rank - 1,)
        kernels.append(PrunableKernel(layer.kernel.path, layer, layer.kernel, axes))
    return kernels, [entry for entry in skipped if entry.layer not in names]
