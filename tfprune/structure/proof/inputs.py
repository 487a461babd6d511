"""What a proof runs two models on: random inputs, and weights that hide no mistake."""

import math
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.data.random_inputs import full_shape, random_input
from tfprune.graph.read import Call, given_shapes
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.weights import Weights

SMALL = 10_000
"""Inputs of at most so many numbers are cheap to run several of."""

OPEN_SIZE = 64
"""Stands for input sizes that the model leaves open."""


def random_inputs(
    found: Units, rng: np.random.Generator, input_shape: Any, alive: np.ndarray | None = None
) -> list[np.ndarray]:
    """Inputs of a few samples: indices where an Embedding reads them, else normal numbers.

    `alive` tells what stays of each id, where a smaller model is to be run on them too.
    """
    given = [] if input_shape is None else list(given_shapes(input_shape))
    samples = _samples(found)
    mistaken = _mistaken(found, alive)
    while samples in mistaken:
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
                array[..., -1] = 0  # Padding, where the model takes it for that.
        else:
            # All of a mask counts.
            whole = {"bool": (1, 2), "string": (0, 10)}.get(value.dtype, (0, 2))
            plain = value.dtype in ("bool", "string") or "int" in value.dtype
            dtype = value.dtype if plain else "float32"
            array = random_input(rng, shape, dtype, whole=whole)
        inputs.append(array)
    return inputs


def _samples(found: Units) -> int:
    """Two; more for small inputs that are normalized over the batch.

    Where space has shrunk to one position, two samples may hardly differ, and dividing by how far
    they do makes rounding errors a thousand times larger.
    """
    small = all(
        math.prod(OPEN_SIZE if size is None else size for size in found.flow.sizes[ref.index][1:])
        <= SMALL
        for ref in tree.flatten(found.graph.inputs)
    )
    norms = (call.op for call in found.graph.calls)
    normalized = any(isinstance(op, keras.layers.BatchNormalization) for op in norms)
    return 8 if small and normalized else 2


def _mistaken(found: Units, alive: np.ndarray | None) -> set[int]:
    """The numbers of samples at which Keras adds wrongly.

    Keras 3.15 takes an addend that is a single number for each sample for a bias, where there are
    as many samples as the other addend has channels or rows. Only where the number of samples is
    known, as it is here.
    """
    flow = found.flow
    calls = [*found.graph.calls, *(call for graph in flow.inside.values() for call in graph.calls)]
    wrong: set[int] = set()
    for call in calls:
        if type(call.op).__name__ != "Add":
            continue
        extents = [flow.extents(ref)[1:] for ref in call.inputs]
        for mask in [np.ones(flow.size, bool)] + ([] if alive is None else [alive]):
            sizes = [
                [int(mask[e].sum()) if isinstance(e, np.ndarray) else e for e in inner]
                for inner in extents
            ]
            if any(all(size == 1 for size in inner) for inner in sizes):
                wrong.update(size for inner in sizes for size in inner if size is not None)
    return wrong


def varied(weights: Weights, rng: np.random.Generator) -> Weights:
    """The weights, with random numbers in place of those that are all alike."""
    return {
        key: [_at_random(array, rng) if _is_fresh(array) else array for array in arrays]
        for key, arrays in weights.items()
    }


def _is_fresh(array: np.ndarray) -> bool:
    """Tell whether all numbers of a weight are alike, as those of new ones are."""
    if array.dtype.kind != "f" or array.size < 2:
        return False
    # The first and the last number tell most arrays from fresh ones without a search.
    return bool(array.flat[0] == array.flat[-1]) and array.min() == array.max()


def _at_random(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 1.5, array.shape).astype(array.dtype)


class Statistics:
    """Moving statistics near those of the inputs, so that signals neither fade nor drown.

    They are found while the original runs: each BatchNormalization gets its own from what first
    reaches it.
    """

    def __init__(
        self, found: Units, originals: dict[int, Any], quiet: Weights, rng: np.random.Generator
    ) -> None:
        self.quiet, self.rng = quiet, rng
        self.norms = {
            id(call.op): originals[id(call.op)]
            for call in found.graph.calls
            if isinstance(call.op, keras.layers.BatchNormalization)
        }
        self.seen: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def normalize(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a BatchNormalization gives with its statistics; None for any other call."""
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
        arrays = dict(zip([w.name for w in layer.weights], self.quiet[key], strict=True))
        # Keras's own operation, as the layer calls it: where a mean is far larger than the spread,
        # another order of the same sums is 1000 times less exact than the rest.
        return keras.ops.batch_normalization(
            x,
            _like(x, mean),
            _like(x, variance),
            axis=axis,
            offset=arrays.get("beta"),
            scale=arrays.get("gamma"),
            epsilon=layer.epsilon,
        )

    def _near(self, x: Any, axis: int) -> tuple[np.ndarray, np.ndarray]:
        others = [position for position in range(len(x.shape)) if position != axis]
        mean, variance = (keras.ops.convert_to_numpy(m) for m in keras.ops.moments(x, others))
        floor = 0.1 * float(variance.mean()) + 1e-6
        spread = np.sqrt(variance + floor)
        return (
            mean + 0.2 * spread * self.rng.normal(size=mean.shape),
            (variance + floor) * self.rng.uniform(0.5, 2.0, mean.shape),
        )

    def weights(self, noisy: Weights) -> Weights:
        """The weights of every layer that has statistics now, with them."""
        result: Weights = {}
        for key, (mean, variance) in self.seen.items():
            values = {"moving_mean": mean, "moving_variance": variance}
            result[key] = [
                np.asarray(values.get(weight.name, array), array.dtype)
                for weight, array in zip(self.norms[key].weights, noisy[key], strict=True)
            ]
        return result


def _like(x: Any, array: np.ndarray) -> Any:
    return keras.ops.convert_to_tensor(array, dtype=x.dtype)
