"""Comparison of two models: random inputs, and the difference of their outputs."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.bridge.graphs import flatten, graph_of, map_structure
from tfprune.bridge.layer_configs import Side, one_line
from tfprune.data.model_comparison import full_shape, largest_share, random_input
from tfprune.errors import ModelError, type_name
from tfprune.graph.graph import Call, Graph, Ref, Value
from tfprune.graph.read import is_function
from tfprune.graph.rebuild import execute
from tfprune.keras_support.internals import layers_below, mask_of

TOLERANCE = 1e-5
# For half precision: the order of sums differs between the generations.
_HALF_TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2}
# Sizes for open dimensions, by the number of dimensions of space or time.
_OPEN_SIZE = {1: 12, 2: 32, 3: 12}
_ATTENTION = {"MultiHeadAttention", "Attention", "AdditiveAttention"}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """A model and its counterpart of the other generation.

    `tensors` are those of the graph with their counterparts, and the names of what makes them.
    """

    old: Any
    new: Any
    source: Side
    target: Side
    graph: Graph
    tensors: list[tuple[Ref, Any, str]]
    caller: str


def verify(both: Comparison) -> None:
    """Raise unless both models give the same outputs on random input.

    Raises:
        ModelError: The message names the first layer that differs.
    """
    old, source = both.old, both.source
    limit = tolerance(old)
    samples = map_structure(Sampler(both.graph, source, padded=True), both.graph.inputs)
    worst = _worst(both, samples)
    if not worst <= limit and _has_attention(old):
        # The output of attention with all positions masked is undefined in both.
        samples = map_structure(Sampler(both.graph, source, padded=False), both.graph.inputs)
        worst = _worst(both, samples)
        if worst <= limit:
            _logger.warning(
                "%s: %r gives other values for padded positions in %s, where attention has "
                "nothing to attend to; all others agree",
                both.caller, old.name, both.target.name,
            )  # fmt: skip
    if not worst <= limit:
        raise ModelError(
            f"{both.caller}: the outputs of {old.name!r} differ by {worst:.2g} of their scale "
            f"(allowed {limit:g}), starting at {_first_difference(both, samples, limit)}"
        )


def _worst(both: Comparison, samples: Any) -> float:
    try:
        theirs = flatten(both.old(samples, training=False))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{both.caller}: the model {both.old.name!r} does not run on random input of shape "
            f"{shapes(samples)}: {one_line(error)}"
        ) from error
    ours = flatten(both.new(samples, training=False))
    return max(
        (difference(*unpadded(a, b)) for a, b in zip(theirs, ours, strict=True)), default=0.0
    )


def _has_attention(model: Any) -> bool:
    return any(type(layer).__name__ in _ATTENTION for layer in layers_below(model))


def _first_difference(both: Comparison, samples: Any, limit: float) -> str:
    old, new = both.old, both.new
    if isinstance(old, both.source.api.Sequential):
        mine = theirs = samples
        twins = graph_of(new, both.target).calls
        for call, twin in zip(both.graph.calls, twins, strict=True):
            layer = call.op
            theirs, mine = layer(theirs, training=False), twin.op(mine, training=False)
            if not agree(theirs, mine, limit):
                return f"layer {layer.name!r} ({type_name(layer)}). Replace that layer"
        return "its last layer. Replace that layer"
    found: dict[Ref, Any] = {}

    def run(call: Call, args: Any, kwargs: Any) -> Any:
        made = call.op(*args, **kwargs)
        found.update(zip(call.outputs, flatten(made), strict=True))
        return made

    execute(both.graph, flatten(samples), run)
    for ref, after, name in both.tensors:
        right = both.target.api.Model(new.inputs, after)(flatten(samples))
        if not agree(found[ref], right, limit):
            return f"layer {name!r}. Replace that layer"
    return "its output"


class Sampler:
    """Makes a random array for an input of a model: indices if it feeds an Embedding.

    If `padded`, some rows of indices end in zeros.
    """

    def __init__(self, graph: Graph, side: Side, *, padded: bool) -> None:
        self.graph, self.side, self.padded = graph, side, padded
        self.random = np.random.default_rng(0)
        layers = layers_below(graph.model)
        sizes = [layer.input_dim for layer in layers if type(layer).__name__ == "Embedding"]
        sizes += [
            layer.num_tokens for layer in layers if type(layer).__name__ == "CategoryEncoding"
        ]
        self.classes = min(sizes, default=10)
        # An input of indices is float32 by default in tf_keras.
        self.has_embedding = bool(sizes)

    def __call__(self, ref: Ref) -> NDArray[Any]:
        indices = self.has_embedding and _feeds_embedding(self.graph, ref, self.side)
        return self.array(self.graph.values[ref.index], indices)

    def array(self, value: Value, indices: bool) -> NDArray[Any]:
        """Return an array for an input of this shape and dtype."""
        shape, dtype = sample_shape(value), value.dtype
        if dtype == "string":
            raise ModelError("an input of strings cannot be compared on random input: remove it")
        if not ("int" in dtype or indices):
            return random_input(self.random, shape, dtype)
        # 0, which may mean padding, is only at the end of a row.
        whole = (min(1, self.classes - 1), self.classes)
        array = random_input(self.random, shape, dtype, whole=whole, indices=True)
        if self.padded and array.ndim > 1:
            array[-1, array.shape[1] // 2 + 1 :] = 0
        return array


def sample_shape(value: Value) -> tuple[int, ...]:
    """Return the shape of a random array for an input, or of a tensor computed from it."""
    sizes = value.shape
    return full_shape(sizes, 2, _OPEN_SIZE.get(len(sizes) - 2, 8)) if sizes else ()


def check_sizes(graph: Graph, most_elements: int) -> None:
    """Raise if comparing models would create an array with more elements.

    Raises:
        ModelError: The message names the layer and the shape.
    """
    for call in graph.calls:
        layer = call.op
        made = [sample_shape(graph.values[ref.index]) for ref in call.outputs]
        for shape in [*made, *_scores_shapes(graph, call)]:
            if math.prod(shape) > most_elements:
                raise ModelError(
                    f"layer {layer.name!r} ({type_name(layer)}) creates an array of shape {shape}, "
                    f"more than the {most_elements:,} elements allowed for comparison"
                )


def _scores_shapes(graph: Graph, call: Call) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of attention's scores."""
    kind = type(call.op).__name__
    if kind not in _ATTENTION:
        return
    given = [graph.values[ref.index] for ref in call.inputs]
    shapes_ = [sample_shape(value) for value in given if len(value.shape) > 2]
    lengths = [math.prod(shape[1:-1]) for shape in shapes_] or [1]
    width = shapes_[0][-1] if shapes_ and kind == "AdditiveAttention" else 1
    yield (getattr(call.op, "num_heads", 1), max(lengths), max(lengths), width)


def _feeds_embedding(graph: Graph, ref: Ref, side: Side) -> bool:
    for call in graph.readers(ref):
        if type(call.op).__name__ in ("Embedding", "CategoryEncoding"):
            return True
        if is_function(call.op):
            inner = graph_of(call.op, side)
            if any(_feeds_embedding(inner, start, side) for start in flatten(inner.inputs)):
                return True
    return False


def tolerance(model: Any) -> float:
    """Return the allowed relative difference of outputs, larger for half precision."""
    policies = {layer.dtype_policy.compute_dtype for layer in layers_below(model)}
    return max([_HALF_TOLERANCE.get(name, TOLERANCE) for name in policies], default=TOLERANCE)


def difference(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the largest difference relative to the scale of `left`; inf if shapes differ.

    Example:
        >>> difference(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
        0.5
    """
    if left.shape != right.shape:
        return float("inf")
    return largest_share(left, right, equal_holes=True, scale_of_zeros=0.0)


def unpadded(left: Any, right: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two outputs without masked positions."""
    mask = mask_of(left)
    first, second = np.asarray(left), np.asarray(right)
    if mask is None or first.shape != second.shape:
        return first, second
    chosen = np.asarray(mask)
    if chosen.shape != first.shape[: chosen.ndim]:  # the mask of another output of the layer
        return first, second
    return first[chosen], second[chosen]


def agree(left: Any, right: Any, limit: float) -> bool:
    """Return whether the relative difference of all outputs is within a limit."""
    pairs = zip(flatten(left), flatten(right), strict=True)
    return all(difference(*unpadded(a, b)) <= limit for a, b in pairs)


def shapes(samples: Any) -> str:
    """Return the shapes of a structure of arrays, as text."""
    return ", ".join(str(array.shape) for array in flatten(samples))
