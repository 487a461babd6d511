"""Comparison of two models: random inputs, and the difference of their outputs."""

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.bridge.graphs import (
    dtype_of,
    ends,
    flatten,
    given_to,
    layers_within,
    map_structure,
    needed,
    operation_of,
)
from tfprune.bridge.layer_configs import Side, one_line
from tfprune.data.model_comparison import full_shape, largest_share, random_input
from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import graph_inside, is_symbolic, maker_of, mask_of, readers_of

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

    `tensors` are those between the layers of both, with the name of the layer that makes them.
    """

    old: Any
    new: Any
    source: Side
    target: Side
    inputs: Any
    tensors: list[tuple[Any, Any, str]]
    caller: str


def verify(both: Comparison) -> None:
    """Raise unless both models give the same outputs on random input.

    Raises:
        ModelError: The message names the first layer that differs.
    """
    old, source = both.old, both.source
    limit = tolerance(old, source)
    samples = map_structure(Sampler(old, source, padded=True), both.inputs)
    worst = _worst(both, samples)
    if not worst <= limit and _has_attention(old, source):
        # The output of attention with all positions masked is undefined in both.
        samples = map_structure(Sampler(old, source, padded=False), both.inputs)
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


def _has_attention(model: Any, side: Side) -> bool:
    return any(type(layer).__name__ in _ATTENTION for layer in layers_within(model, side))


def _first_difference(both: Comparison, samples: Any, limit: float) -> str:
    old, new = both.old, both.new
    if isinstance(old, both.source.api.Sequential):
        mine = theirs = samples
        for layer, other in zip(old.layers, new.layers, strict=True):
            theirs, mine = layer(theirs, training=False), other(mine, training=False)
            if not agree(theirs, mine, limit):
                return f"layer {layer.name!r} ({type_name(layer)}). Replace that layer"
        return "its last layer. Replace that layer"
    made = {id(t) for node in needed(ends(old)[1], {}, both.source) for t in flatten(node.outputs)}
    for before, after, name in both.tensors:
        if id(before) not in made:
            continue
        left = both.source.api.Model(ends(old)[0], before)(samples)
        right = both.target.api.Model(ends(new)[0], after)(samples)
        if not agree(left, right, limit):
            return f"layer {name!r}. Replace that layer"
    return "its output"


class Sampler:
    """Makes a random array for an input of a model: indices if it feeds an Embedding.

    If `padded`, some rows of indices end in zeros.
    """

    def __init__(self, model: Any, side: Side, *, padded: bool) -> None:
        self.padded = padded
        self.random = np.random.default_rng(0)
        layers = list(layers_within(model, side))
        sizes = [layer.input_dim for layer in layers if type(layer).__name__ == "Embedding"]
        sizes += [
            layer.num_tokens for layer in layers if type(layer).__name__ == "CategoryEncoding"
        ]
        self.classes = min(sizes, default=10)
        # An input of indices is float32 by default in tf_keras.
        self.has_embedding = bool(sizes)

    def __call__(self, tensor: Any) -> NDArray[Any]:
        shape = sample_shape(tensor)
        dtype = dtype_of(tensor)
        if dtype == "string":
            raise ModelError("an input of strings cannot be compared on random input: remove it")
        if not ("int" in dtype or (self.has_embedding and _feeds_embedding(tensor))):
            return random_input(self.random, shape, dtype)
        # 0, which may mean padding, is only at the end of a row.
        whole = (min(1, self.classes - 1), self.classes)
        indices = random_input(self.random, shape, dtype, whole=whole, indices=True)
        if self.padded and indices.ndim > 1:
            indices[-1, indices.shape[1] // 2 + 1 :] = 0
        return indices


def sample_shape(tensor: Any) -> tuple[int, ...]:
    """Return the shape of a random array for an input, or of a tensor computed from it."""
    if not tensor.shape:
        return ()
    sizes = tuple(tensor.shape)
    return full_shape(sizes, 2, _OPEN_SIZE.get(len(sizes) - 2, 8))


def check_sizes(nodes: Iterable[Any], most_elements: int) -> None:
    """Raise if comparing models would create an array with more elements.

    Raises:
        ModelError: The message names the layer and the shape.
    """
    for node in nodes:
        layer = operation_of(node)
        made = [sample_shape(tensor) for tensor in flatten(node.outputs)]
        for shape in [*made, *_scores_shapes(node, layer)]:
            if math.prod(shape) > most_elements:
                raise ModelError(
                    f"layer {layer.name!r} ({type_name(layer)}) creates an array of shape {shape}, "
                    f"more than the {most_elements:,} elements allowed for comparison"
                )


def _scores_shapes(node: Any, layer: Any) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of attention's scores."""
    kind = type(layer).__name__
    if kind not in _ATTENTION:
        return
    given = [t for t in flatten(list(given_to(node))) if is_symbolic(t)]
    shapes_ = [sample_shape(tensor) for tensor in given if len(tensor.shape) > 2]
    lengths = [math.prod(shape[1:-1]) for shape in shapes_] or [1]
    width = shapes_[0][-1] if shapes_ and kind == "AdditiveAttention" else 1
    yield (getattr(layer, "num_heads", 1), max(lengths), max(lengths), width)


def _feeds_embedding(tensor: Any) -> bool:
    for node in readers_of(maker_of(tensor)):
        taker = operation_of(node)
        if type(taker).__name__ in ("Embedding", "CategoryEncoding"):
            return True
        function = graph_inside(taker) or taker
        starts = getattr(function, "inputs", None)
        if starts and any(_feeds_embedding(start) for start in starts):
            return True
    return False


def tolerance(model: Any, side: Side) -> float:
    """Return the allowed relative difference of outputs, larger for half precision."""
    policies = {layer.dtype_policy.compute_dtype for layer in layers_within(model, side)}
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
