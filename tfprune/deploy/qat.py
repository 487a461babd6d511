"""Training that knows it will be quantised."""

import itertools
import re
from collections.abc import Container, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.deploy import qat_layers as own
from tfprune.deploy.interface import generation
from tfprune.deploy.qat_attention import QuantisedLayerNormalization, QuantisedMultiHeadAttention
from tfprune.deploy.qat_layers import ActivationRange
from tfprune.errors import ModelError, type_name
from tfprune.filters import Filter, as_filters, check_used, choose
from tfprune.twins import carry_compile, settle, uncompiled

QUANTISED: dict[type, Any] = {
    keras.layers.Dense: own.QuantisedDense,
    keras.layers.Conv1D: own.QuantisedConv1D,
    keras.layers.Conv2D: own.QuantisedConv2D,
    keras.layers.DepthwiseConv2D: own.QuantisedDepthwiseConv2D,
    keras.layers.Conv1DTranspose: own.QuantisedConv1DTranspose,
    keras.layers.Conv2DTranspose: own.QuantisedConv2DTranspose,
    keras.layers.SeparableConv1D: own.QuantisedSeparableConv1D,
    keras.layers.SeparableConv2D: own.QuantisedSeparableConv2D,
    keras.layers.PReLU: own.QuantisedPReLU,
    keras.layers.EinsumDense: own.QuantisedEinsumDense,
    keras.layers.Embedding: own.QuantisedEmbedding,
    keras.layers.MultiHeadAttention: QuantisedMultiHeadAttention,
    keras.layers.LayerNormalization: QuantisedLayerNormalization,
}
"""The layer that trains in the place of another."""

# BatchNormalization behind these becomes a part of them.
_FOLDABLE = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)

_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)

_RANGE = "_range"

# They hand on the numbers they are given, so that no new range arises.
_MOVERS = (
    "InputLayer", "Flatten", "Reshape", "Permute", "RepeatVector", "Dropout", "SpatialDropout1D",
    "SpatialDropout2D", "GaussianNoise", "Identity", "ZeroPadding1D", "ZeroPadding2D",
    "Cropping1D", "Cropping2D", "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "Embedding", "Transpose", "Swapaxes", "Moveaxis", "ExpandDims", "Squeeze",
)  # fmt: skip


# Products of two tensors. The file rounds the second about zero, so that every runtime computes it.
_PRODUCTS = ("Matmul", "Einsum", "Dot")


def quantize_aware(
    model: keras.Model, *, keep_zeros: bool = True, skip: str | Sequence[str] = ()
) -> keras.Model:
    """Return a model that trains under the rounding of an int8 file.

    BatchNormalization behind a convolution or Dense layer is folded into it, as the converter
    will; kernels are rounded to 8 bits, those of convolutions with a scale for each channel; and
    every tensor is rounded to 256 values of the range that training shows. Compile and fit the
    result for a few epochs at a small learning rate, then give it to `to_tflite` with
    scheme="int8": the file rounds by the same ranges.

    Args:
        model: A trained functional or sequential `keras.Model` without models in it. It is left as
            it is.
        keep_zeros: Weights of kernels that are zero now, by pruning or else, stay zero.
        skip: Names or patterns of layers that train as they are: those with weights that there is
            no rule for must be named. The file quantises them all the same.

    Returns:
        A model of the same layer names.

    Raises:
        ModelError: It is no such model, or has weights that no rule is for and `skip` does not
            name.
        FilterError: An entry of `skip` matches no layer.

    Example:
        aware = quantize_aware(model)
        aware.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
        aware.fit(x, y, epochs=2)
        to_tflite(aware, "model.tflite", scheme="int8")
    """
    functional = _functional(model)
    kinds = _kinds(functional, as_filters("skip", skip))
    folded = _foldable(functional, kinds)
    inside = {operation.name for operation in functional.operations}
    into = {norm: layer for layer, norm in folded.items()}
    add_range = _RangeMaker(_second_factors(functional, folded, inside))

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in folded:
            config["use_bias"] = True
        return kinds.get(layer.name, type(layer)).from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(add_range.behind_input, (args, kwargs))
        outputs = args[0] if layer.name in into else layer(*args, **kwargs)
        original = _named(functional, layer.name)
        if original is None or not _has_range(original, folded, inside):
            return outputs
        return add_range.behind(layer.name, outputs, _fixed_limits(original))

    with uncompiled(functional):
        aware = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in functional.layers:
        if layer.name in into or not layer.weights:
            continue
        values = [np.asarray(value) for value in layer.get_weights()]
        if layer.name in folded:
            values = _fold(layer, values, functional.get_layer(folded[layer.name]))
        twin = aware.get_layer(layer.name)
        if type(twin) in QUANTISED.values():
            twin.take(values, keep_zeros)
        else:
            twin.set_weights(values)
            settle(twin, layer)
        twin.trainable = layer.trainable
    carry_compile(model, aware)
    return aware


def is_quantize_aware(model: Any) -> bool:
    """Tell whether a model is one that `quantize_aware` made."""
    if not isinstance(model, keras.Model):
        return False
    return any(type(layer) in QUANTISED.values() for layer in model.layers)


def has_trained_ranges(model: Any) -> bool:
    """Tell whether training has shown every tensor that a quantisation-aware model rounds."""
    ranges = [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if isinstance(layer, ActivationRange)
    ]
    return bool(ranges) and all(float(layer.seen) > 0 for layer in ranges)


def strip_quantization(model: keras.Model) -> keras.Model:
    """Return the ordinary model inside of a quantisation-aware one, with the zeros it kept.

    Args:
        model: What `quantize_aware` gave, trained or not. Other models are given back.

    Raises:
        ModelError: It is no model.
    """
    if generation(model) is None:
        raise ModelError(f"expected a keras.Model or tf_keras.Model, got {type_name(model)}")
    if not is_quantize_aware(model):
        return model
    plain = {quantised: kind for kind, quantised in QUANTISED.items()}

    def clone(layer: Any) -> Any:
        kind: Any = plain.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if type(layer) is ActivationRange else layer(*args, **kwargs)

    with uncompiled(model):
        stripped = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if type(layer) is ActivationRange or not layer.weights:
            continue
        values = layer.plain() if type(layer) in plain else layer.get_weights()
        plainly = stripped.get_layer(layer.name)
        plainly.set_weights(values)
        settle(plainly, layer)
    carry_compile(model, stripped)
    return stripped


def _functional(model: Any) -> keras.Model:
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ModelError(
            f"expected a functional or sequential keras.Model, got {type_name(model)}; a tf_keras "
            "model has its own in tensorflow_model_optimization"
        )
    nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if nested:
        raise ModelError(f"layer {nested[0]!r} is a model in the model; build it from layers")
    if is_quantize_aware(model):
        raise ModelError(f"model {model.name!r} is quantisation-aware already")
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


class _RangeMaker:
    """Puts ranges behind tensors, one behind each, with names that are free.

    Args:
        about_zero: The operations whose output is rounded about zero, by name.
    """

    def __init__(self, about_zero: Container[str]) -> None:
        self._about_zero = about_zero
        self._names: set[str] = set()
        self._behind_inputs: dict[int, Any] = {}

    def behind(self, name: str, tensor: Any, limits: tuple[float, float] | None = None) -> Any:
        """Return a tensor rounded, the layer that does it named after another."""
        free = name + _RANGE
        while free in self._names:  # a layer that is used several times
            free += "_again"
        self._names.add(free)
        if name in self._about_zero:
            return ActivationRange(about_zero=True, name=free)(tensor)
        return ActivationRange(fixed=limits, name=free)(tensor)

    def behind_input(self, tensor: Any) -> Any:
        """Return a tensor, rounded if it is a float input of the model; others as they are."""
        if not isinstance(tensor, keras.KerasTensor) or not tensor.dtype.startswith("float"):
            return tensor
        source = tensor._keras_history.operation
        if not isinstance(source, keras.layers.InputLayer):
            return tensor
        if id(tensor) not in self._behind_inputs:
            self._behind_inputs[id(tensor)] = self.behind(source.name, tensor)
        return self._behind_inputs[id(tensor)]


def _kinds(model: keras.Model, skip: tuple[Filter[Any], ...]) -> dict[str, Any]:
    """Return the class that trains in the place of each layer that is rounded, by its name.

    Raises:
        FilterError: A filter matches no layer.
        ModelError: A layer has weights that no rule is for, and no filter names it.
    """
    layers = list(model.layers)
    check_used(layers, lambda layer: [layer.name], skip=skip)
    found = {}
    chosen = choose(layers, lambda layer: [layer.name], skip=skip)
    for layer in itertools.compress(layers, chosen):
        reason, instead = "", ""
        if type(layer) in QUANTISED:
            reason = _obstacle(layer)
            found[layer.name] = QUANTISED[type(layer)]
        elif isinstance(layer, _RECURRENT):
            reason = "there is no rule for a loop, whose states the converter would keep float"
            instead = (
                ", where the file takes all its ranges from calibration=, or quantise the model "
                "itself with scheme='int8' and calibration=, or with scheme='dynamic'"
            )
        elif any(len(weight.shape) > 1 for weight in layer.weights):
            reason = "it has weights and there is no rule for its kind"
        if reason:
            raise ModelError(
                f"layer {layer.name!r} ({type_name(layer)}) cannot train under rounding: {reason}; "
                f"give skip=[{layer.name!r}] to train it as it is{instead}"
            )
    return found


def _obstacle(layer: Any) -> str:
    """Say why the rule for a layer's kind is not for this layer; nothing if it is."""
    if isinstance(layer, keras.layers.EinsumDense) and not _is_product(layer.equation):
        return "its input and its kernel share an axis that stays"
    if getattr(layer, "rms_scaling", False):
        return "with rms_scaling it computes something else"
    return ""


def _is_product(equation: str) -> bool:
    """Tell whether every axis of an EinsumDense kernel is either summed over or new."""
    inputs, kernel, outputs = re.split(",|->", equation.replace(" ", ""))
    return all((axis in inputs) != (axis in outputs) for axis in kernel)


def _named(model: keras.Model, name: str) -> Any:
    return next((operation for operation in model.operations if operation.name == name), None)


def _consumers(operation: Any, inside: Container[str]) -> list[Any]:
    """Return what reads the output of an operation, in this model and not in others."""
    after = [node.operation for node in operation._outbound_nodes]
    return [reader for reader in after if reader.name in inside]


def _foldable(model: keras.Model, kinds: Container[str]) -> dict[str, str]:
    """Return which BatchNormalization is folded into which of these layers, by name."""
    inside = {operation.name for operation in model.operations}
    found = {}
    for layer in model.layers:
        if layer.name not in kinds or type(layer) not in _FOLDABLE:
            continue
        if layer.activation is not keras.activations.linear:
            continue
        after = _consumers(layer, inside)
        if len(after) != 1 or type(after[0]) is not keras.layers.BatchNormalization:
            continue
        if after[0].axis in (-1, len(layer.output.shape) - 1):
            found[layer.name] = after[0].name
    return found


def _fold(layer: Any, values: list[np.ndarray], norm: Any) -> list[np.ndarray]:
    """Return kernels and bias of a layer with its BatchNormalization inside."""
    bias = values.pop() if layer.use_bias else 0.0
    weights = {weight.name: np.asarray(weight.numpy(), np.float64) for weight in norm.weights}
    factor = weights.get("gamma", 1.0) / np.sqrt(weights["moving_variance"] + norm.epsilon)
    moved = weights.get("beta", 0.0) + (bias - weights["moving_mean"]) * factor
    # Of the two kernels of a separable convolution the last one makes the channels.
    *before, kernel = values
    # The channels of a depthwise kernel are its last two axes, of a transposed one the last but
    # one, of the others the last one.
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        shape = kernel.shape[2:]
    elif isinstance(layer, keras.layers.Conv1DTranspose | keras.layers.Conv2DTranspose):
        shape = (kernel.shape[-2], 1)
    else:
        shape = kernel.shape[-1:]
    scaled = kernel * np.reshape(factor, shape)
    return [*before, scaled.astype(kernel.dtype), np.asarray(moved, kernel.dtype)]


def _has_range(operation: Any, folded: Container[str], inside: Container[str]) -> bool:
    """Tell whether the file stores the output of this operation as a tensor of its own."""
    if type(operation).__name__ in _MOVERS:
        return False
    outputs = operation.output
    if not isinstance(outputs, keras.KerasTensor) or not outputs.dtype.startswith("float"):
        return False
    if operation.name in folded:
        return False
    if isinstance(operation, keras.layers.PReLU):
        return True
    # The converter makes a ReLU part of what is before it, of a PReLU alone not.
    after = _consumers(operation, inside)
    return not (len(after) == 1 and _is_relu(after[0]))


def _fixed_limits(operation: Any) -> tuple[float, float] | None:
    """Return the range that the runtime's kernel has for what it gives, whatever it has seen."""
    if isinstance(operation, (keras.layers.Activation, *QUANTISED)):
        activation = getattr(operation, "activation", None)
        for name, limits in own.FIXED_LIMITS.items():
            if activation is getattr(keras.activations, name):
                return limits
        return None
    ours = type(operation).__module__.startswith("keras.")
    return own.FIXED_LIMITS.get(type(operation).__name__.lower()) if ours else None


def _second_factors(model: keras.Model, folded: Container[str], inside: Container[str]) -> set[str]:
    """Return the operations whose output is the second factor of a product, by name."""
    found: set[str] = set()
    tensors: list[Any] = []
    for operation in model.operations:
        if type(operation).__name__ in _PRODUCTS:
            for node in operation._inbound_nodes:
                factors = keras.tree.flatten(node.arguments.args)
                tensors += factors[1:] if len(factors) == 2 else []
    while tensors:
        tensor = tensors.pop()
        if not isinstance(tensor, keras.KerasTensor):
            continue
        operation = tensor._keras_history.operation
        if operation.name in found or operation.name not in inside:
            continue
        found.add(operation.name)
        if not _has_range(operation, folded, inside):
            for node in operation._inbound_nodes:
                tensors += node.input_tensors
    return found


def _is_relu(operation: Any) -> bool:
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope and not operation.threshold
    kind = getattr(operation, "activation", None)
    return isinstance(operation, keras.layers.Activation) and kind in (
        keras.activations.relu,
        keras.activations.relu6,
    )
