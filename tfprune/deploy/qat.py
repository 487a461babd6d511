"""Training that knows it will be quantised."""

import itertools
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
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
    keras.layers.DepthwiseConv1D: own.QuantisedDepthwiseConv1D,
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
    keras.layers.DepthwiseConv1D,
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
    "GetItem", "Split", "Tile", "Repeat", "Max", "Min", "UpSampling1D",
)  # fmt: skip

# They make new numbers, which the file rounds as it rounded what they are given …
_KEEPERS = ("AveragePooling1D", "AveragePooling2D", "UpSampling2D", "Pad", "Clip", "Flip")
# … and of these all inputs too as what they give.
_CUTS = ("Maximum", "Minimum")
_JOINS = ("Concatenate", "Stack", "Where", *_CUTS)

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
    graph = _Graph(functional)
    folded = _foldable(graph, kinds)
    into = {norm: layer for layer, norm in folded.items()}
    names = _range_names(graph)
    rounded = Counter(
        names[name]
        for name, operation in graph.operations.items()
        if isinstance(operation, keras.layers.InputLayer) or _has_range(operation, folded, graph)
    )
    about_zero = {names[name] for name in _second_factors(graph, folded)}
    add_range = _RangeMaker(names, rounded, about_zero)

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in folded:
            config["use_bias"] = True
        return kinds.get(layer.name, type(layer)).from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(add_range.behind_input, (args, kwargs))
        outputs = args[0] if layer.name in into else layer(*args, **kwargs)
        original = graph.operations.get(layer.name)
        if original is None or not _has_range(original, folded, graph):
            return outputs
        first = graph.operations.get(names[layer.name])
        return add_range.behind(layer.name, outputs, _fixed_limits(first))

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
        names: What the range behind each operation is named after: those of one name share it.
        rounded: How many operations there are behind which the range of a name stands.
        about_zero: The names of ranges that have zero in their middle.
    """

    def __init__(
        self, names: Mapping[str, str], rounded: Mapping[str, int], about_zero: Container[str]
    ) -> None:
        self._names = names
        self._rounded = rounded
        self._about_zero = about_zero
        self._made: dict[str, ActivationRange] = {}
        self._behind_inputs: dict[int, Any] = {}

    def behind(self, name: str, tensor: Any, limits: tuple[float, float] | None = None) -> Any:
        """Return a tensor rounded, as the output of the operation of a name is."""
        name = self._names[name]
        free = name + _RANGE
        tensors = self._rounded[name]
        if tensors > 1 and free in self._made:
            return self._made[free](tensor)
        while free in self._made:  # a layer that is used several times
            free += "_again"
        centred = name in self._about_zero
        self._made[free] = ActivationRange(
            # All tensors of a batch together narrow it as much as one does.
            momentum=own.MOMENTUM ** (1 / tensors),
            about_zero=centred,
            fixed=None if centred else limits,
            name=free,
        )
        return self._made[free](tensor)

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


class _Graph:
    """Says what reads what in a model, and not in others that share its layers.

    Args:
        model: A functional model.

    Attributes:
        model: The same.
        operations: Its operations by name, each behind what it reads.
        given: The names of those whose output the model gives.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.operations: dict[str, Any] = {each.name: each for each in model.operations}
        self.given = {tensor._keras_history.operation.name for tensor in model.outputs}

    def sources(self, operation: Any) -> list[Any]:
        """Return the operations that an operation reads floats of."""
        read = [tensor for node in operation._inbound_nodes for tensor in node.input_tensors]
        sources = [
            tensor._keras_history.operation for tensor in read if tensor.dtype.startswith("float")
        ]
        return [source for source in sources if source.name in self.operations]

    def readers(self, operation: Any) -> list[Any]:
        """Return what reads the output of an operation, None for who calls the model."""
        after = [node.operation for node in operation._outbound_nodes]
        inside = [reader for reader in after if reader.name in self.operations]
        return [*inside, None] if operation.name in self.given else inside


def _foldable(graph: _Graph, kinds: Container[str]) -> dict[str, str]:
    """Return which BatchNormalization is folded into which of these layers, by name."""
    found = {}
    for layer in graph.model.layers:
        if layer.name not in kinds or type(layer) not in _FOLDABLE:
            continue
        if layer.activation is not keras.activations.linear:
            continue
        after = graph.readers(layer)
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
    if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
        shape = kernel.shape[-2:]
    elif isinstance(layer, keras.layers.Conv1DTranspose | keras.layers.Conv2DTranspose):
        shape = (kernel.shape[-2], 1)
    else:
        shape = kernel.shape[-1:]
    scaled = kernel * np.reshape(factor, shape)
    return [*before, scaled.astype(kernel.dtype), np.asarray(moved, kernel.dtype)]


def _range_names(graph: _Graph) -> dict[str, str]:
    """Return the operation that the range of each operation's output is named after.

    Those of one name have one range, since the file has one scale for them. An input of a join has
    its own where something else reads it too: the file rounds it again in front of the join. A
    join that is read by another has the range of that in any case, or a chain of them would round
    the same numbers again and again.
    """
    operations = graph.operations
    names = {name: name for name in operations}

    def name_alike(old: str, new: str) -> None:
        names.update({name: new for name, first in names.items() if first == old})

    for name, operation in operations.items():
        if _kind(operation) in _MOVERS + _KEEPERS:
            for source in graph.sources(operation):
                name_alike(names[name], names[source.name])
    # Those that something else reads than joins, or than what has the same range.
    bound = {
        names[name]
        for name, operation in operations.items()
        for reader in graph.readers(operation)
        if _kind(reader) not in _JOINS and (reader is None or names[reader.name] != names[name])
    }
    free = {
        name
        for name, first in names.items()
        if _kind(operations[first]) in _JOINS
        or (first not in bound and _fixed_limits(operations[first]) is None)
    }
    for name, operation in operations.items():
        if _kind(operation) in _JOINS:
            for source in graph.sources(operation):
                if source.name in free:
                    name_alike(names[source.name], names[name])
    for tensor in graph.model.inputs:  # a clone names the layers of inputs after their tensors
        name = tensor._keras_history.operation.name
        if names[name] == name:
            name_alike(name, tensor.name)
        names[tensor.name] = names[name]
    return names


def _kind(operation: Any) -> str:
    """Return the name of Keras's class of an operation; nothing for those of others."""
    kind = type(operation)
    return kind.__name__ if kind.__module__.startswith("keras.") else ""


def _has_range(operation: Any, folded: Container[str], graph: _Graph) -> bool:
    """Tell whether the file stores the output of this operation as a tensor of its own."""
    if _kind(operation) in _MOVERS:
        return False
    outputs = operation.output
    if not isinstance(outputs, keras.KerasTensor) or not outputs.dtype.startswith("float"):
        return False
    if operation.name in folded:
        return False
    if isinstance(operation, keras.layers.PReLU) or _kind(operation) in _KEEPERS + _JOINS:
        return True
    # The converter makes a ReLU part of what is before it, of these alone not. What others cut off
    # is not stored either.
    after = graph.readers(operation)
    if len(after) != 1:
        return True
    cut = _kind(after[0]) in _CUTS and _fixed_limits(operation) is None
    return not (cut or _is_relu(after[0]))


def _fixed_limits(operation: Any) -> tuple[float, float] | None:
    """Return the range that the runtime's kernel has for what it gives, whatever it has seen."""
    if isinstance(operation, (keras.layers.Activation, *QUANTISED)):
        activation = getattr(operation, "activation", None)
        for name, limits in own.FIXED_LIMITS.items():
            if activation is getattr(keras.activations, name):
                return limits
        return None
    return own.FIXED_LIMITS.get(_kind(operation).lower())


def _second_factors(graph: _Graph, folded: Container[str]) -> set[str]:
    """Return the operations whose output is the second factor of a product, by name."""
    found: set[str] = set()
    operations: list[Any] = []
    for operation in graph.operations.values():
        if _kind(operation) in _PRODUCTS:
            for node in operation._inbound_nodes:
                factors = keras.tree.flatten(node.arguments.args)
                second = factors[1] if len(factors) == 2 else None
                if isinstance(second, keras.KerasTensor):
                    operations.append(second._keras_history.operation)
    while operations:
        operation = operations.pop()
        if operation.name in found or operation.name not in graph.operations:
            continue
        found.add(operation.name)
        if not _has_range(operation, folded, graph):
            operations += graph.sources(operation)
    return found


def _is_relu(operation: Any) -> bool:
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope and not operation.threshold
    kind = getattr(operation, "activation", None)
    return isinstance(operation, keras.layers.Activation) and kind in (
        keras.activations.relu,
        keras.activations.relu6,
    )
