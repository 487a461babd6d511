"""Quantization-aware training."""

import contextlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.deploy.qat.kept import Shared, counts_of, multiplied, shared_of
from tfprune.deploy.qat.layer_map import QUANTIZED, channel_axis, chosen_names, fold, kinds_of
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
)
from tfprune.errors import ModelError, type_name
from tfprune.graph.flat import FlatEdits, flat_graph
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.model_signature import generation
from tfprune.graph.read import read
from tfprune.graph.rebuild import Weights, operations, read_weights, rebuild
from tfprune.graph.tracing.weight import Constant, Weight
from tfprune.keras_support.internals import all_layers, direct_layers, layers_below, own_variables
from tfprune.keras_support.models import carry_compile, refuse_quantized, settle
from tfprune.utils.filters import Filters, as_filters

_RANGE = "_range"
_AWARE = (*QUANTIZED.values(), QuantisedCall, ActivationRange)
_PLAIN = {quantized: kind for kind, quantized in QUANTIZED.items()}


def quantize_aware(
    model: keras.Model,
    *,
    keep_zeros: bool = True,
    keep_clusters: bool = False,
    only: Filters[Any] = (),
    skip: Filters[Any] = (),
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
        input_shape: The shape of the input without the batch, for a subclassed model that was
            not called yet.

    Returns:
        A functional model with the same layer names.

    Raises:
        ModelError: It is another kind of model, or it calls one layer with different arguments.
        FilterError: An entry of `only` or `skip` matches no layer.

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
    chosen = chosen_names(flat, as_filters("only", only), as_filters("skip", skip))
    edits = _Rounding(flat, chosen, shared)
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
    """Return whether a Keras 3 model has kernels whose weights share values, as of `cluster`."""
    if not isinstance(model, keras.Model):
        return False
    return any(
        any(shared_of(own_variables(layer), channel_axis(layer))) for layer in all_layers(model)
    )


def float_layers(model: Any) -> tuple[str, ...]:
    """Return the names of the layers of a quantization-aware model that compute in floats."""
    ranges = (layer for layer in direct_layers(model) if type(layer) is ActivationRange)
    return next((layer.floats for layer in ranges if layer.floats), ())


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
        chosen: The names of the layers and operations that are rounded.
        shared: The groups of equal weights of each layer that has some, weight by weight.
    """

    def __init__(
        self, flat: Graph, chosen: Container[str], shared: Mapping[str, list[Shared | None]]
    ) -> None:
        super().__init__()
        self.graph = graph = OperationGraph(flat, lambda op: op.name in chosen)
        self.shared = {name: several for name, several in shared.items() if name in graph.chosen}
        operations = [graph.operations[name] for name in graph.operations if name in graph.chosen]
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
            if graph.is_read_rounded(op) or has_range(op, self.folded, graph)
        )
        self.about_zero = {self.names[name] for name in second_factors(graph, self.folded)}
        self.ranges: dict[str, ActivationRange] = {}
        self.starts: dict[int, Any] = {}
        self.floats = sorted({call.op.name for call in flat.calls} - graph.chosen)

    def _rounded_inside(self, op: Any) -> QuantisedCall | None:
        calls = self.graph.calls[op.name]
        if moves(op) or isinstance(op, Weight | Constant) or not calls or not calls[0].inputs:
            return None
        if not any("float" in value.dtype for value in self.graph.outputs[op.name]):
            return None
        args, kwargs = tree.map_structure(self.graph.symbol, (calls[0].args, calls[0].kwargs))
        return rounded_inside(op, args, kwargs, counts_of(self.shared.get(op.name, ())))

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
        if self.graph.rounds(call.op):
            args, kwargs = tree.map_structure(self._read, (call.args, call.kwargs), (args, kwargs))
        return op.called(args, kwargs) if op.name in self.inside else op(*args, **kwargs)

    def _read(self, leaf: Any, given: Any) -> Any:
        """Return what a rounded call reads: rounded, even if what made it is not."""
        maker = self.graph.makers[leaf.index] if isinstance(leaf, Ref) else None
        if maker is None or self.graph.rounds(maker) or not given.dtype.startswith("float"):
            return given
        if leaf.index not in self.starts:
            self.starts[leaf.index] = self._in_range(maker, given)
        return self.starts[leaf.index]

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
        maker = self.graph.operations.get(name)
        bound = fixed_limits(maker) if maker is not None and self.graph.rounds(maker) else None
        self.ranges[free] = ActivationRange(
            # All tensors of a batch together narrow the range as much as one does.
            momentum=MOMENTUM ** (1 / tensors),
            about_zero=centered,
            fixed=None if centered else bound,
            floats=() if self.ranges else self.floats,  # kept by one of them
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
