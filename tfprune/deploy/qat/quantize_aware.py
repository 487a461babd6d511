"""Quantization-aware training."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.deploy.qat.kept import Shared, counts_of, multiplied, shared_of
from tfprune.deploy.qat.layer_map import QUANTIZED, channel_axis, chosen, fold, kinds_of
from tfprune.deploy.qat.ranges import MOMENTUM, ActivationRange
from tfprune.deploy.qat.rounded_call import QuantisedCall, copied, rounded_inside, unpacked
from tfprune.deploy.qat.rounding_points import (
    OperationGraph,
    fixed_limits,
    foldable,
    has_range,
    moves,
    range_names,
    second_factors,
)
from tfprune.errors import ModelError, type_name
from tfprune.graph.model_signature import generation
from tfprune.graph.rebuild import flat_model
from tfprune.graph.tracing.weight import Constant, Weight
from tfprune.keras_support.internals import all_layers, layers_below, maker_of, own_variables
from tfprune.keras_support.models import carry_compile, refuse_quantized, settle, uncompiled
from tfprune.utils.filters import as_filters

_RANGE = "_range"
_AWARE = (*QUANTIZED.values(), QuantisedCall)


def quantize_aware(
    model: keras.Model,
    *,
    keep_zeros: bool = True,
    keep_clusters: bool = False,
    skip: str | Sequence[str] = (),
    input_shape: Any = None,
) -> keras.Model:
    """Return a model that trains under the rounding of an int8 file.

    BatchNormalization after a convolution or Dense layer is folded into it, as in the converter,
    and is a layer of its own elsewhere; kernels are rounded to 8 bits, those of convolutions with a
    scale for each channel; and every tensor is rounded to 256 values of the range found in
    training. Compile and fit the result for a few epochs at a small learning rate, then pass it to
    `to_tflite` with scheme="int8": the file uses the same ranges.

    Args:
        model: A trained `keras.Model` of any kind; nested, composite and subclassed ones are
            unrolled into layers of Keras. It is not changed.
        keep_zeros: Kernel weights that are zero now, by pruning or otherwise, stay zero.
        keep_clusters: Kernel weights that are equal now, as `cluster` makes them, stay equal while
            their value trains, and are equal in the file: a kernel has there no more integers than
            it has values now, with one scale times a factor for each channel of a convolution.
        skip: Names or patterns of layers that train without rounding. The file quantizes them
            nevertheless, with ranges from `calibration=`.
        input_shape: The shape of the input without the batch, for a subclassed model that was
            not called yet.

    Returns:
        A functional model with the same layer names.

    Raises:
        ModelError: It is another kind of model, or it calls one layer with different arguments.
        FilterError: An entry of `skip` matches no layer.

    Example:
        aware = quantize_aware(model)
        aware.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
        aware.fit(x, y, epochs=2)
        to_tflite(aware, "model.tflite", scheme="int8")
    """
    functional = _functional(model, input_shape)
    graph = OperationGraph(functional)
    operations = chosen(functional, as_filters("skip", skip))
    kinds = kinds_of(operations)
    shared = _shared(functional, {one.name for one in operations}) if keep_clusters else {}
    inside = {
        operation.name: made
        for operation in operations
        if operation.name not in kinds
        and (made := _rounded_inside(operation, graph, counts_of(shared.get(operation.name, ()))))
    }
    graph.covered = {name for name, made in inside.items() if made.covers_output}
    # The converter takes given scales of channels only where these are the last axis.
    apart = {name for name in shared if channel_axis(graph.operations[name]) == -2}
    folded = {a: b for a, b in foldable(graph, kinds).items() if a not in apart}
    into = {norm: layer for layer, norm in folded.items()}
    names = range_names(graph)
    rounded = Counter(
        names[name]
        for name, operation in graph.operations.items()
        if isinstance(operation, keras.layers.InputLayer) or has_range(operation, folded, graph)
    )
    about_zero = {names[name] for name in second_factors(graph, folded)}
    add_range = _RangeMaker(names, rounded, about_zero)

    def clone(layer: Any) -> Any:
        if layer.name in inside:
            return inside[layer.name]
        if layer.name not in kinds:
            return copied(layer)
        config = layer.get_config()
        if layer.name in folded:
            config["use_bias"] = True
        if layer.name in shared and hasattr(kinds[layer.name], "clusters"):
            config["clusters"] = counts_of(shared[layer.name])
        # Keras 3.10 omits this from configs.
        if hasattr(layer, "output_padding"):
            config["output_padding"] = layer.output_padding
        return kinds[layer.name].from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(add_range.after_input, (args, kwargs))
        if layer.name in inside:
            outputs = inside[layer.name].called(args, kwargs)
        else:
            outputs = args[0] if layer.name in into else layer(*args, **kwargs)
        original = graph.operations.get(layer.name)
        if original is None or not has_range(original, folded, graph):
            return outputs
        first = graph.operations.get(names[layer.name])
        return add_range.after(layer.name, outputs, fixed_limits(first))

    with uncompiled(functional):
        aware = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in functional.layers:
        if layer.name in into or not layer.weights:
            continue
        values = [np.asarray(value) for value in layer.get_weights()]
        groups = shared.get(layer.name, [])
        if layer.name in folded:
            last = len(values) - 1 - bool(layer.use_bias)
            values, factor = fold(layer, values, functional.get_layer(folded[layer.name]))
            groups = [multiplied(one, factor) if i == last else one for i, one in enumerate(groups)]
        twin = aware.get_layer(layer.name)
        if type(twin) in _AWARE:
            twin.take(values, keep_zeros, groups)
        else:
            twin.set_weights(values)
        settle(getattr(twin, "inner", twin), layer)
        twin.trainable = layer.trainable
    carry_compile(model, aware)
    return aware


def is_quantize_aware(model: Any) -> bool:
    """Return whether `quantize_aware` made a model."""
    if not isinstance(model, keras.Model):
        return False
    return any(type(layer) in _AWARE for layer in model.layers)


def shares_values(model: Any) -> bool:
    """Return whether a Keras 3 model has kernels whose weights share values, as of `cluster`."""
    if not isinstance(model, keras.Model):
        return False
    return any(
        any(shared_of(own_variables(layer), channel_axis(layer))) for layer in all_layers(model)
    )


def has_trained_ranges(model: Any) -> bool:
    """Return whether training has found the ranges of all rounded tensors of a model."""
    ranges = [layer for layer in layers_below(model) if isinstance(layer, ActivationRange)]
    return bool(ranges) and all(float(layer.seen) > 0 for layer in ranges)


def strip_quantization(model: keras.Model) -> keras.Model:
    """Return the ordinary model of a quantization-aware one, with its zeros.

    Args:
        model: A model of `quantize_aware`, trained or not. Other models are returned unchanged.

    Raises:
        ModelError: It is not a model.
    """
    if generation(model) is None:
        raise ModelError(f"expected a keras.Model or tf_keras.Model. Received {type_name(model)}")
    if not is_quantize_aware(model):
        return model
    refuse_quantized(model)
    plain = {quantized: kind for kind, quantized in QUANTIZED.items()}
    parts = {layer.name: layer for layer in model.layers}

    def clone(layer: Any) -> Any:
        if type(layer) is QuantisedCall:
            return copied(layer.inner)
        if type(layer) not in plain:
            return copied(layer)
        kind: Any = plain[type(layer)]
        config = layer.get_config()
        config.pop("clusters", None)
        return kind.from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if type(layer) is ActivationRange:
            return args[0]
        if type(aware := parts.get(layer.name)) is QuantisedCall:
            given, named = unpacked(args[0], aware.rest)
            return layer(*given, **named)
        return layer(*args, **kwargs)

    with uncompiled(model):
        stripped = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if type(layer) is ActivationRange or not getattr(
            getattr(layer, "inner", layer), "weights", ()
        ):
            continue
        values = layer.plain() if type(layer) in _AWARE else layer.get_weights()
        plainly = stripped.get_layer(layer.name)
        plainly.set_weights(values)
        settle(plainly, getattr(layer, "inner", layer))
    carry_compile(model, stripped)
    return stripped


def _functional(model: Any, input_shape: Any) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"expected a Keras 3 model. Received {type_name(model)}; for a tf_keras model, use "
            "tensorflow_model_optimization"
        )
    refuse_quantized(model)
    if is_quantize_aware(model):
        raise ModelError(f"model {model.name!r} is quantization-aware already")
    return flat_model(model, input_shape=input_shape)


def _shared(model: keras.Model, names: Container[str]) -> dict[str, list[Shared | None]]:
    """Return the groups of equal weights of the layers that have some, weight by weight.

    Raises:
        ModelError: No layer has.
    """
    found = {
        layer.name: shared_of(layer.get_weights(), channel_axis(layer))
        for layer in model.layers
        if layer.name in names
    }
    found = {name: groups for name, groups in found.items() if any(groups)}
    if not found:
        raise ModelError(
            f"keep_clusters: no kernel of {model.name!r} has weights that share values; call "
            "cluster() and train it first, or leave out keep_clusters"
        )
    return found


def _rounded_inside(
    operation: Any, graph: OperationGraph, clusters: Sequence[int]
) -> QuantisedCall | None:
    nodes = graph.calls(operation)
    if moves(operation) or isinstance(operation, Weight | Constant):
        return None
    if not nodes or not nodes[0].input_tensors:
        return None
    return rounded_inside(operation, nodes[0], clusters)


class _RangeMaker:
    """Inserts a range after each tensor, with unique names.

    Args:
        names: The name of the range after each operation; operations with one name share it.
        rounded: Number of operations that share the range of a name.
        about_zero: Names of ranges that are symmetric around zero.
    """

    def __init__(
        self, names: Mapping[str, str], rounded: Mapping[str, int], about_zero: Container[str]
    ) -> None:
        self._names = names
        self._rounded = rounded
        self._about_zero = about_zero
        self._made: dict[str, ActivationRange] = {}
        self._after_inputs: dict[int, Any] = {}

    def after(self, name: str, tensor: Any, limits: tuple[float, float] | None = None) -> Any:
        """Return a tensor, rounded like the output of the named operation."""
        name = self._names[name]
        free = name + _RANGE
        tensors = self._rounded[name]
        if tensors > 1 and free in self._made:
            return self._made[free](tensor)
        while free in self._made:  # a layer that is used several times
            free += "_again"
        centered = name in self._about_zero
        self._made[free] = ActivationRange(
            # All tensors of a batch together narrow the range as much as one does.
            momentum=MOMENTUM ** (1 / tensors),
            about_zero=centered,
            fixed=None if centered else limits,
            name=free,
        )
        return self._made[free](tensor)

    def after_input(self, tensor: Any) -> Any:
        """Return a tensor, rounded if it is a float input of the model."""
        if not isinstance(tensor, keras.KerasTensor) or not tensor.dtype.startswith("float"):
            return tensor
        source = maker_of(tensor)
        if not isinstance(source, keras.layers.InputLayer):
            return tensor
        if id(tensor) not in self._after_inputs:
            self._after_inputs[id(tensor)] = self.after(source.name, tensor)
        return self._after_inputs[id(tensor)]
