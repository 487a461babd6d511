"""Random inputs and randomized weights for the equivalence check."""

import math
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.data.model_comparison import full_shape, random_input
from tfprune.graph.graph import Call
from tfprune.graph.inputs import given_shapes
from tfprune.graph.rebuild import Weights
from tfprune.structure.groups.units import Units

SMALL = 10_000
"""Samples of at most this many numbers are cheap enough for a larger batch."""

OPEN_SIZE = 64
"""The size used for input axes that the model leaves open."""


def random_inputs(
    found: Units, rng: np.random.Generator, input_shape: Any, kept_mask: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return inputs of a few samples: indices for an Embedding, else normal numbers.

    Pass `kept_mask`, whether each id is kept, if a smaller model is run on them too.
    """
    given = [] if input_shape is None else list(given_shapes(input_shape))
    samples = _samples(found)
    wrong = _miscomputed(found, kept_mask)
    while samples in wrong:
        samples += 1
    inputs = []
    for number, ref in enumerate(tree.flatten(found.graph.inputs)):
        value = found.graph.values[ref.index]
        sizes = given[number] if given else value.shape[1:]
        shape = full_shape((value.shape[0], *sizes), samples, OPEN_SIZE)
        limit = found.flow.vocabulary.get(ref.index)
        if limit is not None:
            array = random_input(rng, shape, value.dtype, whole=(0, limit), indices=True)
            if array.ndim > 1 and array.shape[-1] > 1:
                array[..., -1] = 0  # Padding, if the model masks zeros.
        else:
            # Masks are all True.
            whole = {"bool": (1, 2), "string": (0, 10)}.get(value.dtype, (0, 2))
            plain = value.dtype in ("bool", "string") or "int" in value.dtype
            dtype = value.dtype if plain else "float32"
            array = random_input(rng, shape, dtype, whole=whole)
        inputs.append(array)
    return inputs


def _samples(found: Units) -> int:
    """Return the number of samples: more for small inputs that are normalized over the batch.

    With one spatial position, two samples may hardly differ, and dividing by their spread
    multiplies rounding errors by a thousand.
    """
    small = all(
        math.prod(OPEN_SIZE if size is None else size for size in found.flow.sizes[ref.index][1:])
        <= SMALL
        for ref in tree.flatten(found.graph.inputs)
    )
    norms = (call.op for call in found.graph.calls)
    normalized = any(isinstance(op, keras.layers.BatchNormalization) for op in norms)
    return 8 if small and normalized else 2


def _miscomputed(found: Units, kept_mask: np.ndarray | None) -> set[int]:
    """Return the numbers of samples for which Keras computes a wrong sum.

    Keras 3.15 treats an addend with one number per sample as a bias if the number of samples is
    known and equals the other addend's channels or rows.
    """
    flow = found.flow
    calls = [*found.graph.calls, *(call for graph in flow.inside.values() for call in graph.calls)]
    wrong: set[int] = set()
    for call in calls:
        if type(call.op).__name__ != "Add":
            continue
        extents = [flow.extents(ref)[1:] for ref in call.inputs]
        for mask in [np.ones(flow.size, bool)] + ([] if kept_mask is None else [kept_mask]):
            sizes = [
                [int(mask[e].sum()) if isinstance(e, np.ndarray) else e for e in inner]
                for inner in extents
            ]
            if any(all(size == 1 for size in inner) for inner in sizes):
                wrong.update(size for inner in sizes for size in inner if size is not None)
    return wrong


def varied(weights: Weights, rng: np.random.Generator) -> Weights:
    """Return the weights, with constant arrays replaced by random numbers."""
    return {
        key: [
            rng.uniform(0.5, 1.5, array.shape).astype(array.dtype) if _is_uniform(array) else array
            for array in arrays
        ]
        for key, arrays in weights.items()
    }


def _is_uniform(array: np.ndarray) -> bool:
    """Return whether all numbers of a weight are equal, as after initialization."""
    if array.dtype.kind != "f" or array.size < 2:
        return False
    # Comparing the first and the last number avoids a search in most arrays.
    return bool(array.flat[0] == array.flat[-1]) and array.min() == array.max()


class Statistics:
    """Moving statistics close to those of the inputs, so that signals keep their scale.

    They are computed while the original runs, for each BatchNormalization from its first input.
    """

    def __init__(
        self, found: Units, originals: dict[int, Any], zeroed: Weights, rng: np.random.Generator
    ) -> None:
        self.zeroed, self.rng = zeroed, rng
        self.norms = {
            id(call.op): originals[id(call.op)]
            for call in found.graph.calls
            if isinstance(call.op, keras.layers.BatchNormalization)
        }
        self.seen: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def normalize(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the output of a BatchNormalization with its statistics; None for other calls."""
        key = id(call.op)
        if key not in self.norms:
            return None
        layer = self.norms[key]
        axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
        x = keras.ops.cast(args[0], layer.compute_dtype)
        axis %= len(x.shape)
        if key not in self.seen:
            self.seen[key] = self._near(x, axis)
        mean, variance = self.seen[key]
        arrays = dict(zip([w.name for w in layer.weights], self.zeroed[key], strict=True))
        # Use the operation that the layer calls: if a mean is far larger than the spread, another
        # order of the same sums is 1000 times less exact.
        return keras.ops.batch_normalization(
            x,
            _like(x, mean),
            _like(x, variance),
            axis=axis,
            offset=_like(x, arrays.get("beta")),
            scale=_like(x, arrays.get("gamma")),
            epsilon=layer.epsilon,
        )

    def _near(self, x: Any, axis: int) -> tuple[np.ndarray, np.ndarray]:
        others = [position for position in range(len(x.shape)) if position != axis]
        mean, variance = (keras.ops.convert_to_numpy(m) for m in keras.ops.moments(x, others))
        floor = 0.1 * float(variance.mean()) + 1e-6
        spread = np.sqrt(variance + floor)
        near = (
            mean + 0.2 * spread * self.rng.normal(size=mean.shape),
            (variance + floor) * self.rng.uniform(0.5, 2.0, mean.shape),
        )
        # Just what the weights of the small model can store, whatever is computed in.
        return near[0].astype(np.float32), near[1].astype(np.float32)

    def weights(self, noisy: Weights) -> Weights:
        """Return the weights, with their statistics, of every BatchNormalization that has run."""
        result: Weights = {}
        for key, (mean, variance) in self.seen.items():
            values = {"moving_mean": mean, "moving_variance": variance}
            result[key] = [
                np.asarray(values.get(weight.name, array), array.dtype)
                for weight, array in zip(self.norms[key].weights, noisy[key], strict=True)
            ]
        return result


def _like(x: Any, array: np.ndarray | None) -> Any:
    return None if array is None else keras.ops.convert_to_tensor(array, dtype=x.dtype)
