"""Quantization-aware training."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfprune.deploy.converter.grids import is_on_grid
from tfprune.deploy.qat.edits import Rounding, Stripping
from tfprune.deploy.qat.layer_map import QUANTIZED, channel_axis
from tfprune.deploy.qat.rounded_call import QuantisedCall
from tfprune.deploy.qat.rounding.choices import Choose, chosen_by
from tfprune.deploy.qat.rounding.kept import Shared, shared_of
from tfprune.deploy.qat.rounding.layer_rounding import Ranges, has_rule
from tfprune.deploy.qat.rounding.ranges import ActivationRange
from tfprune.errors import ModelError, type_name
from tfprune.graph.flat import flat_graph
from tfprune.graph.graph import Graph
from tfprune.graph.model_signature import generation
from tfprune.graph.read import read
from tfprune.graph.rebuild import Weights, operations, read_weights, rebuild
from tfprune.keras_support.internals import all_layers, direct_layers, layers_below, own_variables
from tfprune.keras_support.models import carry_compile, refuse_quantized, settle
from tfprune.utils.einsum import kernel_axes
from tfprune.utils.filters import Filters

_AWARE = (*QUANTIZED.values(), QuantisedCall, ActivationRange)


def quantize_aware(
    model: keras.Model,
    *,
    keep_zeros: bool = True,
    keep_clusters: bool = False,
    only: Filters[Any] = (),
    skip: Filters[Any] = (),
    bits: int | Mapping[str, int] = 8,
    ranges: Ranges = "widening",
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
        only: Names or patterns of the layers that are rounded, of all if empty; that of a nested
            model or of a layer stands for all inside it. The others train in floats and stay so in
            the file.
        skip: Names or patterns of layers that are not.
        bits: The bits of the kernels of Dense, Conv2D and DepthwiseConv2D layers, 4 or 8, or those
            of some by name or pattern: {"conv": 4}.
        ranges: How the range of a tensor follows the batches: "widening" widens at once and narrows
            slowly; "moving_average" follows slowly; "last_value" is the last batch's; "all_values"
            has all batches in it. Tensors with a common range always widen.
        input_shape: The shape of the input without the batch, for a subclassed model that was
            not called yet.

    Returns:
        A functional model with the same layer names.

    Raises:
        ModelError: It is another kind of model, or it calls one layer with different arguments.
        OptionError: An argument is not among the allowed values.
        FilterError: An entry of `only` or `skip` matches no layer.

    Example:
        aware = quantize_aware(model)
        aware.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
        aware.fit(x, y, epochs=2)
        to_tflite(aware, "model.tflite", scheme="int8")
    """
    choose = chosen_by(only, skip, bits, ranges)
    return rounded_model(
        model, choose, keep_zeros=keep_zeros, keep_clusters=keep_clusters, input_shape=input_shape
    )


def rounded_model(
    model: keras.Model,
    choose: Choose,
    *,
    keep_zeros: bool,
    keep_clusters: bool,
    input_shape: Any = None,
    whole: Callable[[Any], bool] = has_rule,
    prefix: str = "",
) -> keras.Model:
    """Return what `quantize_aware` does, with further choices.

    Args:
        model: The model.
        choose: Returns how the operations of its flat graph are rounded.
        keep_zeros: As in `quantize_aware`.
        keep_clusters: As in `quantize_aware`.
        input_shape: As in `quantize_aware`.
        whole: Returns whether a layer of one's own is rounded as one, not unrolled.
        prefix: What the names of rounded layers begin with.
    """
    _check(model)
    flat = flat_graph(model, input_shape=input_shape, whole=whole)
    weights = read_weights(flat)
    shared = _shared(flat, weights) if keep_clusters else {}
    edits = Rounding(flat, choose(flat), shared, prefix)
    rounded = [op for op in operations(flat) if edits.rounds(op) and id(op) in weights]
    taken = [edits.values(op, weights.pop(id(op))) for op in rounded]
    aware, ops = rebuild(flat, weights, edits, weights)
    for op, values in zip(rounded, taken, strict=True):
        ops[id(op)].take(values, keep_zeros, edits.groups(op))
        settle(ops[id(op)], op)
    carry_compile(model, aware)
    return aware


def is_quantize_aware(model: Any) -> bool:
    """Return whether `quantize_aware` made a model."""
    if not isinstance(model, keras.Model):
        return False
    return any(type(layer) in _AWARE for layer in direct_layers(model))


def shares_values(model: Any) -> bool:
    """Return whether a Keras 3 model has kernels whose weights share values, as of `cluster`.

    Kernels on a grid of few steps do not count: the converter's file has their values anyway.
    """
    if not isinstance(model, keras.Model):
        return False
    return any(
        shared is not None and not is_on_grid(np.asarray(value), _outputs(layer, value))
        for layer in all_layers(model)
        for value, shared in zip(
            own_variables(layer), shared_of(own_variables(layer), channel_axis(layer)), strict=True
        )
    )


def _outputs(layer: Any, kernel: Any) -> tuple[int, ...]:
    """Return the axes of a kernel along which files have scales of their own."""
    if isinstance(layer, keras.layers.EinsumDense) and kernel is layer.kernel:
        outer, _, outputs = kernel_axes(layer.equation)
        return (*outer, *outputs)
    return (channel_axis(layer) or -1,)


def float_layers(model: Any) -> tuple[str, ...]:
    """Return the names of the layers of a quantization-aware model that compute in floats."""
    ranges = (layer for layer in direct_layers(model) if type(layer) is ActivationRange)
    return next((layer.floats for layer in ranges if layer.floats), ())


def _prefix_of(model: Any) -> str:
    ranges = (layer for layer in direct_layers(model) if type(layer) is ActivationRange)
    return next((layer.prefix for layer in ranges if layer.prefix), "")


def has_trained_ranges(model: Any) -> bool:
    """Return whether training has found the ranges of all rounded tensors of a model."""
    ranges = _ranges_of(model)
    return bool(ranges) and all(float(layer.seen) > 0 for layer in ranges)


@contextlib.contextmanager
def ranges_kept(model: Any) -> Iterator[None]:
    """Set the ranges of a model back to what they were, behind a `with` block."""
    variables = [variable for layer in _ranges_of(model) for variable in layer.weights]
    before = [np.array(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def _ranges_of(model: Any) -> list[ActivationRange]:
    return [layer for layer in layers_below(model) if isinstance(layer, ActivationRange)]


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
    graph = read(model, lambda op: True)
    weights = read_weights(graph)
    for op in operations(graph):
        if type(op) in _AWARE and type(op) is not ActivationRange:
            weights[id(op)] = op.plain()
    edits = Stripping(_prefix_of(model), float_layers(model))
    stripped, _ = rebuild(graph, weights, edits, weights)
    carry_compile(model, stripped)
    return stripped


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"expected a Keras 3 model. Received {type_name(model)}; for a tf_keras model, use "
            "tensorflow_model_optimization"
        )
    refuse_quantized(model)
    if is_quantize_aware(model):
        raise ModelError(f"model {model.name!r} is quantization-aware already")


def _shared(flat: Graph, weights: Weights) -> dict[str, list[Shared | None]]:
    """Return the groups of equal weights of the layers that have some, weight by weight.

    Raises:
        ModelError: No layer has.
    """
    layers = [op for op in operations(flat) if id(op) in weights]
    groups = {op.name: shared_of(weights[id(op)], channel_axis(op)) for op in layers}
    found = {name: several for name, several in groups.items() if any(several)}
    if not found:
        raise ModelError(
            "keep_clusters: no kernel of the model has weights that share values; call cluster() "
            "and train it first, or leave out keep_clusters"
        )
    return found
