"""Training that knows it will be quantised."""

from collections.abc import Container, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.deploy.qat_layers import QUANTISED, ActivationRange
from tfprune.errors import ModelError, type_name
from tfprune.filters import Filter, as_filters, matches

_RANGE = "_range"

# They hand on the numbers they are given, so that no new range arises.
_MOVERS = (
    "InputLayer", "Flatten", "Reshape", "Permute", "RepeatVector", "Dropout", "SpatialDropout1D",
    "SpatialDropout2D", "GaussianNoise", "Identity", "ZeroPadding1D", "ZeroPadding2D",
    "Cropping1D", "Cropping2D", "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
)  # fmt: skip


def quantize_aware(
    model: keras.Model, *, keep_zeros: bool = True, skip: str | Sequence[str] = ()
) -> keras.Model:
    """Return a model that trains under the rounding of an int8 file.

    BatchNormalization behind a convolution or Dense layer is folded into it, as the converter
    will; kernels are rounded to 8 bits with a scale for each channel, as the converter will; and
    every tensor is rounded to 256 values of the range that training shows. Compile and fit the
    result for a few epochs at a small learning rate, then give it to `to_tflite` with
    scheme="int8" and the training data as calibration.

    Args:
        model: A trained functional or sequential `keras.Model` without models in it. It is left as
            it is.
        keep_zeros: Weights of kernels that are zero now, by pruning or else, stay zero.
        skip: Names or patterns of layers with weights that need not train under rounding, because
            there is no rule for their kind. The file quantises them all the same.

    Returns:
        A model of the same layer names.

    Raises:
        ModelError: It is no such model, or has weights that no rule is for and `skip` does not
            name.

    Example:
        aware = quantize_aware(model)
        aware.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
        aware.fit(x, y, epochs=2)
        to_tflite(aware, "model.tflite", scheme="int8", calibration=x[:500])
    """
    functional = _functional(model)
    filters: tuple[Filter[Any], ...] = as_filters("skip", skip)
    folded = _foldable(functional)
    for layer in functional.layers:
        left = any(len(weight.shape) > 1 for weight in layer.weights)
        if left and type(layer) not in QUANTISED:
            if any(matches(entry, layer, [layer.name]) for entry in filters):
                continue
            raise ModelError(
                f"layer {layer.name!r} ({type_name(layer)}) cannot train under rounding: it has "
                f"weights and there is no rule for its kind; give skip=[{layer.name!r}] to train "
                "it as it is"
            )
    inside = {operation.name for operation in functional.operations}
    into = {norm: layer for layer, norm in folded.items()}

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in folded:
            config["use_bias"] = True
        kind: Any = QUANTISED.get(type(layer), type(layer))
        return kind.from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = args[0] if layer.name in into else layer(*args, **kwargs)
        original = _named(functional, layer.name)
        if original is None or not _has_range(original, folded, inside):
            return outputs
        return ActivationRange(name=layer.name + _RANGE)(outputs)

    aware = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in functional.layers:
        if layer.name in into or not layer.weights:
            continue
        values = [np.asarray(value) for value in layer.get_weights()]
        if layer.name in folded:
            values = _fold(layer, values, functional.get_layer(folded[layer.name]))
        twin = aware.get_layer(layer.name)
        if type(layer) in QUANTISED:
            mask = (values[0] != 0) if keep_zeros else np.ones_like(values[0])
            values = [*values, mask.astype("float32")]
        twin.set_weights(values)
        twin.trainable = layer.trainable
    return aware


def is_quantize_aware(model: Any) -> bool:
    """Tell whether a model is one that `quantize_aware` made."""
    return any(type(layer) in QUANTISED.values() for layer in getattr(model, "layers", ()))


def strip_quantization(model: keras.Model) -> keras.Model:
    """Return the ordinary model inside of a quantisation-aware one, with the zeros it kept.

    Args:
        model: What `quantize_aware` gave, trained or not.
    """
    plain = {quantised: kind for kind, quantised in QUANTISED.items()}

    def clone(layer: Any) -> Any:
        kind: Any = plain.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if type(layer) is ActivationRange else layer(*args, **kwargs)

    stripped = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if type(layer) is ActivationRange or not layer.weights:
            continue
        values = layer.get_weights()
        if type(layer) in plain:
            mask = values.pop()
            values[0] = values[0] * mask
        stripped.get_layer(layer.name).set_weights(values)
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
        return keras.Model(model.inputs, model.outputs, name=model.name)
    return model


def _named(model: keras.Model, name: str) -> Any:
    return next((operation for operation in model.operations if operation.name == name), None)


def _consumers(operation: Any, inside: Container[str]) -> list[Any]:
    """Return what reads the output of an operation, in this model and not in others."""
    after = [node.operation for node in operation._outbound_nodes]
    return [reader for reader in after if reader.name in inside]


def _foldable(model: keras.Model) -> dict[str, str]:
    """Return which BatchNormalization is folded into which layer, by name."""
    inside = {operation.name for operation in model.operations}
    found = {}
    for layer in model.layers:
        if type(layer) not in QUANTISED or layer.activation is not keras.activations.linear:
            continue
        after = _consumers(layer, inside)
        if len(after) != 1 or type(after[0]) is not keras.layers.BatchNormalization:
            continue
        if after[0].axis in (-1, len(layer.output.shape) - 1):
            found[layer.name] = after[0].name
    return found


def _fold(layer: Any, values: list[np.ndarray], norm: Any) -> list[np.ndarray]:
    """Return kernel and bias of a layer with its BatchNormalization inside."""
    bias = values[1] if len(values) > 1 else 0.0
    weights = {weight.name: np.asarray(weight.numpy(), np.float64) for weight in norm.weights}
    factor = weights.get("gamma", 1.0) / np.sqrt(weights["moving_variance"] + norm.epsilon)
    moved = weights.get("beta", 0.0) + (bias - weights["moving_mean"]) * factor
    kernel = values[0]
    # The channels of a depthwise kernel are its last two axes, of the others the last one.
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    shape = kernel.shape[2:] if depthwise else kernel.shape[-1:]
    scaled = kernel * np.reshape(factor, shape)
    return [scaled.astype(kernel.dtype), np.asarray(moved, kernel.dtype)]


def _has_range(operation: Any, folded: Container[str], inside: Container[str]) -> bool:
    """Tell whether the file stores the output of this operation as a tensor of its own."""
    if type(operation).__name__ in _MOVERS:
        return False
    outputs = operation.output
    if not isinstance(outputs, keras.KerasTensor) or not outputs.dtype.startswith("float"):
        return False
    if operation.name in folded:
        return False
    # The converter makes a ReLU part of what is before it.
    after = _consumers(operation, inside)
    return not (len(after) == 1 and _is_relu(after[0]))


def _is_relu(operation: Any) -> bool:
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope and not operation.threshold
    kind = getattr(operation, "activation", None)
    return isinstance(operation, keras.layers.Activation) and kind in (
        keras.activations.relu,
        keras.activations.relu6,
    )
