"""Quantization-aware training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.deploy.converter.grids import is_on_grid
from tfprune.deploy.qat.kept import Shared, counts_of, multiplied, shared_of
from tfprune.deploy.qat.layer_map import QUANTIZED, channel_axis, chosen, fold, kinds_of
from tfprune.deploy.qat.ranges import MOMENTUM, ActivationRange
from tfprune.deploy.qat.rounded_call import QuantisedCall, rounded_inside, unpacked
from tfprune.deploy.qat.rounding_points import (
    OperationGraph,
    fixed_limits,
    foldable,
    has_range,
    moves,
    range_names,
    second_factors,
    takes_indices,
)
from tfprune.errors import ModelError, type_name
from tfprune.graph.flat import FlatEdits, flat_graph
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.model_signature import generation
from tfprune.graph.read import read
from tfprune.graph.rebuild import Weights, operations, read_weights, rebuild
from tfprune.keras_support.internals import all_layers, direct_layers, layers_below, own_variables
from tfprune.keras_support.models import carry_compile, refuse_quantized, settle
from tfprune.utils.einsum import kernel_axes
from tfprune.utils.filters import Filter, as_filters

_RANGE = "_range"
_AWARE = (*QUANTIZED.values(), QuantisedCall)
_PLAIN = {quantized: kind for kind, quantized in QUANTIZED.items()}


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
    _check(model)
    flat = flat_graph(model, input_shape=input_shape)
    weights = read_weights(flat)
    shared = _shared(flat, weights) if keep_clusters else {}
    edits = _Rounding(flat, as_filters("skip", skip), shared)
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
    graph = read(model, lambda op: True)
    weights = read_weights(graph)
    for op in operations(graph):
        if type(op) in _AWARE:
            weights[id(op)] = op.plain()
    stripped, _ = rebuild(graph, weights, _Stripping(), weights)
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


class _Rounding(FlatEdits):
    """Layers that round, ranges, and BatchNormalization folded into the layers before it.

    Args:
        flat: The graph of a flat model.
        skip: The layers that train without rounding.
        shared: The groups of equal weights of each layer that has some, weight by weight.
    """

    def __init__(
        self, flat: Graph, skip: tuple[Filter[Any], ...], shared: Mapping[str, list[Shared | None]]
    ) -> None:
        super().__init__()
        self.shared = shared
        self.graph = graph = OperationGraph(flat)
        operations = chosen(list(graph.operations.values()), skip)
        operations = [op for op in operations if op.name not in graph.fixed]
        self.kinds = kinds_of(operations)
        self.inside = {
            op.name: made
            for op in operations
            if op.name not in self.kinds and (made := self._rounded_inside(op))
        }
        graph.covered = {name for name, made in self.inside.items() if made.covers_output}
        # The converter takes given scales of channels only where these are the last axis.
        apart = {name for name in shared if channel_axis(graph.operations[name]) == -2}
        found = foldable(graph, self.kinds)
        self.folded = {layer: norm for layer, norm in found.items() if layer not in apart}
        self.norms = {norm: graph.operations[norm] for norm in self.folded.values()}
        self.names = range_names(graph)
        # Number of operations that share a range.
        self.rounded = Counter(
            self.names[name]
            for name, op in graph.operations.items()
            if isinstance(op, keras.layers.InputLayer) or has_range(op, self.folded, graph)
        )
        self.about_zero = {self.names[name] for name in second_factors(graph, self.folded)}
        self.ranges: dict[str, ActivationRange] = {}
        self.starts: dict[str, Any] = {}

    def _rounded_inside(self, op: Any) -> QuantisedCall | None:
        calls = self.graph.calls[op.name]
        if moves(op) or not calls:
            return None
        if not any("float" in value.dtype for value in self.graph.outputs[op.name]):
            return None
        args, kwargs = tree.map_structure(self.graph.symbol, (calls[0].args, calls[0].kwargs))
        makers = [self.graph.makers[ref.index].name for ref in calls[0].inputs]
        fixed = [index for index, name in enumerate(makers) if name in self.graph.fixed]
        counts = counts_of(self.shared.get(op.name, ()))
        made = rounded_inside(op, args, kwargs, counts, fixed)
        self.graph.kernels.update((makers[i], op.name) for i in (made.fixed if made else ()))
        return made

    def rounds(self, op: Any) -> bool:
        """Return whether a new operation rounds its weights and what it computes."""
        return (op.name in self.kinds or op.name in self.inside) and not self.is_dropped(op)

    def values(self, op: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Return the weights of a layer, with those of the norm that is folded into it."""
        norm = self.norms.get(self.folded.get(op.name, ""))
        return arrays if norm is None else fold(op, list(arrays), norm)[0]

    def groups(self, op: Any) -> list[Shared | None]:
        """Return the groups of equal weights of a layer, with the factor of a folded norm."""
        groups, norm = self.shared.get(op.name, []), self.norms.get(self.folded.get(op.name, ""))
        if not groups or norm is None:
            return groups
        arrays = [np.asarray(weight) for weight in op.weights]
        last = len(arrays) - 1 - bool(op.use_bias)
        factor = fold(op, arrays, norm)[1]
        return [multiplied(one, factor) if i == last else one for i, one in enumerate(groups)]

    def remake(self, op: Any, name: str) -> Any:
        return self.inside[name] if name in self.inside else super().remake(op, name)

    def kind(self, op: Any) -> Any:
        return self.kinds.get(op.name, type(op))

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        config = super().config(op, config)
        if op.name in self.folded:
            config["use_bias"] = True
        if op.name in self.shared and hasattr(self.kinds.get(op.name), "clusters"):
            config["clusters"] = counts_of(self.shared[op.name])
        # Keras 3.10 omits this from configs.
        if op.name in self.kinds and hasattr(op, "output_padding"):
            config["output_padding"] = op.output_padding
        return config

    def is_dropped(self, op: Any) -> bool:
        return op.name in self.norms

    def call(self, call: Call, op: Any, args: Any, kwargs: Any) -> Any:
        if not takes_indices(call.op, self.graph):
            args, kwargs = tree.map_structure(self._read, (call.args, call.kwargs), (args, kwargs))
        return op.called(args, kwargs) if op.name in self.inside else op(*args, **kwargs)

    def _read(self, leaf: Any, given: Any) -> Any:
        """Return what a call reads: a float input of the model is rounded."""
        layer = self.graph.makers[leaf.index] if isinstance(leaf, Ref) else None
        if not isinstance(layer, keras.layers.InputLayer) or not given.dtype.startswith("float"):
            return given
        if layer.name not in self.starts:
            self.starts[layer.name] = self._in_range(layer, given)
        return self.starts[layer.name]

    def after(self, call: Call, made: Any) -> Any:
        stored = has_range(call.op, self.folded, self.graph)
        return self._in_range(call.op, made) if stored else made

    def _in_range(self, op: Any, tensor: Any) -> Any:
        """Return a tensor, rounded like the output of an operation or the input of the model."""
        name = self.names[op.name]
        free = name + _RANGE
        tensors = self.rounded[name]
        if tensors > 1 and free in self.ranges:
            return self.ranges[free](tensor)
        while free in self.ranges:  # a layer that is used several times
            free += "_again"
        centered = name in self.about_zero
        self.ranges[free] = ActivationRange(
            # All tensors of a batch together narrow the range as much as one does.
            momentum=MOMENTUM ** (1 / tensors),
            about_zero=centered,
            fixed=None if centered else fixed_limits(self.graph.operations.get(name)),
            name=free,
        )
        return self.ranges[free](tensor)


class _Stripping(FlatEdits):
    """The layers without rounding, and no ranges."""

    def remake(self, op: Any, name: str) -> Any:
        return super().remake(op.inner if type(op) is QuantisedCall else op, name)

    def kind(self, op: Any) -> Any:
        return _PLAIN.get(type(op), type(op))

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        config.pop("clusters", None)
        return super().config(op, config)

    def is_dropped(self, op: Any) -> bool:
        return type(op) is ActivationRange

    def is_called_as_is(self, call: Call) -> bool:
        return type(call.op) is not QuantisedCall

    def call(self, call: Call, op: Any, args: Any, kwargs: Any) -> Any:
        if type(call.op) is QuantisedCall:
            args, kwargs = unpacked(args[0], call.op.rest)
        return op(*args, **kwargs)
