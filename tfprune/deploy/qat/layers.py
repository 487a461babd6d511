"""Quantization-aware Keras layers."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfprune.deploy.qat.rounded_call import QuantisedCall, activation_inside
from tfprune.deploy.qat.rounding.kept import Kept, Shared, padded
from tfprune.deploy.qat.rounding.layer_rounding import WeightRounding, from_configs, own_config
from tfprune.deploy.qat.rounding.ranges import ActivationRange, rounded_symmetric, traced
from tfprune.keras_support.internals import store_kernel, stored_kernel
from tfprune.utils.einsum import is_matrix_product, summed_axes

# The converter fuses these into the operation before them, or they change nothing.
_WITHOUT_TENSOR = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.relu6,
)

_AXES = "abcdefghijklmnop"
_NEARLY_ZERO = 1e-30


class Masked:
    """Keeps masks of the weights that are rounded.

    Where a mask is 0, weight and gradient are zero.

    Args:
        *args: Arguments of the plain layer.
        clusters: The number of groups of equal weights in each weight, 0 for free ones.
        roundings: How each weight is rounded, None for as in every layer.
        **kwargs: Arguments of the plain layer.
    """

    clusters: tuple[int, ...] = ()
    roundings: tuple[WeightRounding | None, ...] = ()
    _trains: bool | None = None  # in the call that runs

    def __init__(
        self, *args: Any, clusters: Sequence[int] = (), roundings: Sequence[Any] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.clusters, self.roundings = tuple(clusters), from_configs(roundings)

    def get_config(self) -> dict[str, Any]:
        """Return the config of the layer."""
        own = own_config(self.clusters, self.roundings)
        return {**super().get_config(), **own}  # type: ignore[misc]

    def build(self, input_shape: Any = None) -> None:
        """Create the weights of the layer, and the masks."""
        super().build(input_shape)  # type: ignore[misc]
        self.add_masks()

    def add_masks(self) -> None:
        """Create masks with the shapes of the rounded weights."""
        counts, roundings = padded(self.clusters, 0), padded(self.roundings, None)
        self.kept = [
            Kept(self, raw.shape, self._axes(number), next(counts), next(roundings))
            for number, raw in enumerate(self._raws())
        ]

    def _raws(self) -> list[Any]:
        return [stored_kernel(self)]

    def _axes(self, number: int) -> Sequence[int]:
        """Return the axes of a weight over which one scale extends."""
        return range(len(self._raws()[number].shape))

    def _kept(self, number: int = 0) -> Any:
        return self.kept[number].value(ops.convert_to_tensor(self._raws()[number]))

    def _rounded(self, number: int = 0) -> Any:
        raw = self._raws()[number]
        return self.kept[number].rounded(ops.convert_to_tensor(raw), raw, self._trains)

    def take(
        self, values: Sequence[np.ndarray], keep_zeros: bool, shared: Sequence[Shared | None] = ()
    ) -> None:
        """Set the weights from those of the plain layer; the first ones are rounded."""
        values = list(values)
        # A bias may follow the weights with masks.
        for number, kept in enumerate(self.kept):
            group = shared[number] if shared else None
            values[number] = kept.take(values[number], keep_zeros, group)
        for variable, value in zip(self.own_variables(), values, strict=True):
            variable.assign(value)

    def plain(self) -> list[np.ndarray]:
        """Return the weights of the plain layer."""
        values = [np.array(variable) for variable in self.own_variables()]
        for number in range(len(self.kept)):
            values[number] = np.array(self._kept(number))
        return values

    def own_variables(self) -> list[Any]:
        """Return the variables that the plain layer has too, in its order."""
        bias = getattr(self, "bias", None)
        return [*self._raws(), *([] if bias is None else [bias])]

    # Keras's own method would save the rounded weights, without masks.
    def save_own_variables(self, store: Any) -> None:
        """Save weights and mask."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` saved."""
        keras.layers.Layer.load_own_variables(self, store)


class _QuantizedKernel(Masked):
    """Has a rounded `kernel`, and rounds the input of its activation."""

    kernel_axes: ClassVar[tuple[int, ...]]

    def build(self, input_shape: Any = None) -> None:
        """Create the weights of the layer, the masks, and the range before the activation."""
        super().build(input_shape)
        if getattr(self, "activation", None) not in (None, *_WITHOUT_TENSOR):
            self.before_activation = ActivationRange(name="before_activation")
            self.before_activation.build(())
            self.inside_activation: QuantisedCall | None = activation_inside(
                self.activation  # type: ignore[has-type]
            )

    def _axes(self, number: int) -> Sequence[int]:
        return self.kernel_axes

    @property
    def kernel(self) -> Any:
        """Return the rounded kernel."""
        return self._rounded()

    @kernel.setter
    def kernel(self, variable: Any) -> None:
        # DepthwiseConv2D stores its kernel under this name, the other layers under the other.
        store_kernel(self, variable)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the output as the file computes it, with a rounded input of the activation."""
        self._trains = training
        try:
            return self._activated(inputs, training)
        finally:
            self._trains = None

    def _activated(self, inputs: Any, training: bool | None) -> Any:
        inner = getattr(self, "before_activation", None)
        if inner is None:
            return self.product(inputs, training)
        activation: Any = self.activation  # type: ignore[has-type]
        self.activation = keras.activations.linear
        try:
            outputs = self.product(inputs, training)
        finally:
            self.activation = activation
        outputs = inner(outputs, training=training)
        inside = self.inside_activation
        return activation(outputs) if inside is None else inside([outputs], training=training)

    def product(self, inputs: Any, training: bool | None) -> Any:
        """Return the output of the plain layer for this kernel, before the activation."""
        return super().call(inputs)  # type: ignore[misc]


@keras.saving.register_keras_serializable("tfprune")
class QuantisedDense(_QuantizedKernel, keras.layers.Dense):
    """A Dense layer that trains under 8-bit weights.

    They have one scale: with one for each unit, the weights of each would use all 255 integers,
    and a zipped file would be larger by a seventh. Training compensates for the coarser steps.
    """

    kernel_axes = (0, 1)

    def product(self, inputs: Any, training: bool | None) -> Any:
        """Return the output of the plain layer, for any rank as one product with a bias.

        Keras reshapes inputs with more than two axes to two and back. The converter would then
        leave the bias as a float addition.
        """
        axes = _AXES[: len(inputs.shape) - 1]
        outputs = ops.einsum(f"{axes}y,yz->{axes}z", inputs, self.kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedConv1D(_QuantizedKernel, keras.layers.Conv1D):
    """A Conv1D layer that trains under 8-bit weights."""

    kernel_axes = (0, 1)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedConv2D(_QuantizedKernel, keras.layers.Conv2D):
    """A Conv2D layer that trains under 8-bit weights."""

    kernel_axes = (0, 1, 2)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedDepthwiseConv1D(_QuantizedKernel, keras.layers.DepthwiseConv1D):
    """A DepthwiseConv1D layer that trains under 8-bit weights."""

    kernel_axes = (0,)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedDepthwiseConv2D(_QuantizedKernel, keras.layers.DepthwiseConv2D):
    """A DepthwiseConv2D layer that trains under 8-bit weights."""

    kernel_axes = (0, 1)


class _Transposed(_QuantizedKernel):
    """A transposed convolution, with a scale for each output channel."""

    rank: int
    strides: tuple[int, ...]
    padding: str
    output_padding: Any
    data_format: str
    dilation_rate: tuple[int, ...]

    @property
    def kernel_axes(self) -> tuple[int, ...]:  # type: ignore[override]
        """Return all axes of the kernel except the output axis, the last but one."""
        return (*range(self.rank), self.rank + 1)

    def product(self, inputs: Any, training: bool | None) -> Any:
        """Return the output of the plain layer, always with a bias.

        The converter fuses a ReLU only into a transposed convolution with a bias that is not 0. A
        bias far below a quantization step is 0 in the file.
        """
        outputs = ops.conv_transpose(
            inputs,
            self.kernel,
            list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        bias = getattr(self, "bias", None)
        if traced():
            bias = (
                ops.zeros(stored_kernel(self).shape[-2]) if bias is None else bias
            ) + _NEARLY_ZERO
        outputs = _add_bias(outputs, bias, self.data_format)
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self) -> dict[str, Any]:
        """Return the full config: Keras 3.10 omits `output_padding`."""
        return {**super().get_config(), "output_padding": self.output_padding}


@keras.saving.register_keras_serializable("tfprune")
class QuantisedConv1DTranspose(_Transposed, keras.layers.Conv1DTranspose):
    """A Conv1DTranspose layer that trains under 8-bit weights."""


@keras.saving.register_keras_serializable("tfprune")
class QuantisedConv2DTranspose(_Transposed, keras.layers.Conv2DTranspose):
    """A Conv2DTranspose layer that trains under 8-bit weights."""


class _Separable(_QuantizedKernel):
    """Rounds both kernels of a separable convolution, and the tensor between them."""

    rank: int
    strides: tuple[int, ...]
    padding: str
    data_format: str
    dilation_rate: tuple[int, ...]
    depthwise_kernel: Any
    pointwise_kernel: Any

    def build(self, input_shape: Any = None) -> None:
        """Create the weights of the layer, the masks, and the range between the two kernels."""
        super().build(input_shape)
        self.between = ActivationRange(name="between")
        self.between.build(())

    def _raws(self) -> list[Any]:
        return [self.depthwise_kernel, self.pointwise_kernel]

    def _axes(self, number: int) -> Sequence[int]:
        return range(self.rank + number)  # the inputs of the second kernel too

    def product(self, inputs: Any, training: bool | None) -> Any:
        """Return the output of the plain layer; a sequence is treated as an image of one row."""
        depthwise, pointwise = self._rounded(0), self._rounded(1)
        strides, dilations = self.strides, self.dilation_rate
        row = 2 if self.data_format == "channels_first" else 1
        if self.rank == 1:
            inputs = ops.expand_dims(inputs, row)
            depthwise, pointwise = depthwise[None], pointwise[None]
            strides, dilations = strides * 2, (1, *dilations)
        outputs = ops.depthwise_conv(
            inputs, depthwise, strides, self.padding, self.data_format, dilations
        )
        outputs = self.between(outputs, training=training)
        outputs = ops.conv(outputs, pointwise, data_format=self.data_format)
        outputs = _add_bias(outputs, getattr(self, "bias", None), self.data_format)
        outputs = outputs if self.activation is None else self.activation(outputs)
        return ops.squeeze(outputs, row) if self.rank == 1 else outputs


@keras.saving.register_keras_serializable("tfprune")
class QuantisedSeparableConv1D(_Separable, keras.layers.SeparableConv1D):
    """A SeparableConv1D layer that trains under 8-bit weights."""


@keras.saving.register_keras_serializable("tfprune")
class QuantisedSeparableConv2D(_Separable, keras.layers.SeparableConv2D):
    """A SeparableConv2D layer that trains under 8-bit weights."""


@keras.saving.register_keras_serializable("tfprune")
class QuantisedPReLU(keras.layers.PReLU):
    """A PReLU layer that trains under 8-bit slopes, which have one scale.

    A slope that is 0 may change: most slopes start there.
    """

    def call(self, inputs: Any) -> Any:
        """Return the output of the plain layer, in the form that the converter recognizes."""
        slopes = rounded_symmetric(ops.convert_to_tensor(self.alpha), None)
        above, below = ops.relu(inputs), ops.relu(ops.negative(inputs))
        return ops.add(above, ops.multiply(ops.negative(slopes), below))

    def take(
        self, values: Sequence[np.ndarray], keep_zeros: bool, shared: Sequence[Shared | None] = ()
    ) -> None:
        """Set the slopes from those of the plain layer."""
        self.alpha.assign(values[0])

    def plain(self) -> list[np.ndarray]:
        """Return the weights of the plain layer."""
        return [np.array(self.alpha)]


@keras.saving.register_keras_serializable("tfprune")
class QuantisedEinsumDense(_QuantizedKernel, keras.layers.EinsumDense):
    """An EinsumDense layer that trains under 8-bit weights."""

    @property
    def kernel_axes(self) -> tuple[int, ...]:  # type: ignore[override]
        """Return all axes of the kernel: one scale, as for a Dense layer."""
        return tuple(range(len(stored_kernel(self).shape)))

    def product(self, inputs: Any, training: bool | None) -> Any:
        """Return the output of the plain layer, where possible as one matrix product.

        The converter fuses the bias into a matrix product; elsewhere it stays a float addition.
        """
        summed = len(summed_axes(self.equation))
        shape = [-1 if size is None else size for size in inputs.shape]
        free = shape[: len(shape) - summed]
        if not is_matrix_product(self.equation) or free.count(-1) > 1:
            return super().product(inputs, training)
        new = stored_kernel(self).shape[summed:]
        kernel = ops.reshape(self._kept(), (-1, math.prod(new)))
        kernel = rounded_symmetric(kernel, (0, 1))
        axes = _AXES[: len(free)]
        inputs = ops.reshape(inputs, (*free, kernel.shape[0])) if summed > 1 else inputs
        outputs = ops.einsum(f"{axes}y,yz->{axes}z", inputs, kernel)
        if self.bias is not None:
            bias = ops.broadcast_to(self.bias, new)
            outputs = ops.add(outputs, ops.reshape(bias, (-1,)))
        if self.activation is not None:
            outputs = self.activation(outputs)
        return ops.reshape(outputs, (*free, *new)) if len(new) > 1 else outputs


def _add_bias(outputs: Any, bias: Any, data_format: str) -> Any:
    if bias is None:
        return outputs
    if data_format == "channels_first":
        bias = ops.reshape(bias, (-1, *[1] * (len(outputs.shape) - 2)))
    return ops.add(outputs, bias)
