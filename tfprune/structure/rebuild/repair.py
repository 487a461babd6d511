"""Compensating for removed channels, in closed form and from unlabeled data.

At each consumer, the removed channels are predicted from the kept ones by least squares,
x_removed ≈ A·x_kept + b. Their kernel rows are then added to the kept rows through A, and b is
added to the bias or, without a bias, to the mean of the BatchNormalization that follows. If b
cannot be added anywhere, the prediction is made without it. Nothing is trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import tree

from tfprune.data.batches import read
from tfprune.graph.graph import Call, Ref
from tfprune.graph.inputs import flat_inputs, takes
from tfprune.graph.rebuild import Weights, execute, perform
from tfprune.keras_support.attention_steps import projections_of
from tfprune.keras_support.internals import all_layers, own_variables
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import USE, Binding, places
from tfprune.structure.rebuild.cut import Cut
from tfprune.utils.einsum import letters_of

RIDGE = 1e-4
"""Ridge, as a share of the kept channels' mean variance: bounds the solution if they correlate."""

MANY = 4096
"""Axes of more positions are solved per unit if units repeat along them."""

LINEAR = (kl.Dense, kl.Conv1D, kl.Conv2D, kl.Conv3D)
TRANSPOSED = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
RECURRENT = (kl.SimpleRNN, kl.GRU, kl.LSTM)


class _Moments:
    """Sums that give the means and covariances of channels."""

    def __init__(self, size: int) -> None:
        self.count, self.total = 0, np.zeros(size)
        self.products = np.zeros((size, size))

    def add(self, rows: np.ndarray) -> None:
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        self.products += rows.T @ rows

    def solve(
        self, kept: np.ndarray, removed: np.ndarray, *, constant: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return A and b of x_removed ≈ A·x_kept + b; b is zero unless `constant`."""
        mean = self.total / self.count * constant
        covariance = self.products / self.count - np.outer(mean, mean)
        own = covariance[np.ix_(kept, kept)]
        ridge = RIDGE * max(float(np.trace(own)) / len(own), 1e-12)
        a = np.linalg.solve(own + ridge * np.eye(len(own)), covariance[np.ix_(kept, removed)]).T
        return a, mean[removed] - a @ mean[kept]


@dataclass(eq=False)
class _Consumer:
    """A weight axis that is multiplied by removed channels, with the moments of its input.

    `repeats` is how often the units repeat along the axis, as after flattening an image.
    """

    op: Any
    place: int
    binding: Binding
    repeats: int
    moments: _Moments


def repaired(cut: Cut, data: Any) -> Cut:
    """Return the cut with weights that compensate for the removed units, and notes.

    Args:
        cut: What to remove.
        data: Inputs, (inputs, labels) or batches of them; labels are not read.

    Raises:
        DataError: The data is missing, empty, not finite, or not what the model takes.
    """
    found, kept_mask = cut.left, cut.kept_mask
    consumers: list[_Consumer] = []
    by_call: dict[int, list[tuple[_Consumer, Ref, int]]] = {}
    unreached: dict[str, None] = {}
    for site in found.sites:
        calls = [call for call in found.graph.calls if call.op is site.op]
        for binding in site.bindings:
            if binding.role != USE or kept_mask[binding.ids].all():
                continue
            sources = [source_of(found, one, binding) for one in calls]
            known = [source for source in sources if source is not None]
            if len(known) < len(calls):
                unreached[calls[0].path] = None
                continue
            place = places(site.op)[id(binding.weight)]
            repeats = _repeats(found, binding)
            moments = _Moments(binding.ids.size // repeats)
            consumers.append(consumer := _Consumer(site.op, place, binding, repeats, moments))
            for one, (ref, axis) in zip(calls, known, strict=True):
                by_call.setdefault(id(one), []).append((consumer, ref, axis))

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for consumer, ref, axis in by_call.get(id(call), ()):
            specs = tree.flatten((call.args, call.kwargs))
            tensor = tree.flatten((args, kwargs))[specs.index(ref)]
            x = np.moveaxis(keras.ops.convert_to_numpy(tensor).astype(np.float64), axis, -1)
            consumer.moments.add(x.reshape(-1, len(consumer.moments.total)))
        return perform(call.op, args, kwargs)

    for batch in read(data, takes(found.graph), "repair", labels="ignored"):
        execute(found.graph, flat_inputs(found.graph, batch.inputs), run)
    result = dict(cut.weights)
    for consumer in consumers:
        _compensate(found, result, consumer, kept_mask)
    notes = cut.notes
    if unreached:
        names = ", ".join(list(unreached)[:5])
        names += f" and {len(unreached) - 5} more" if len(unreached) > 5 else ""
        notes += (
            f"repair= does not reach all of {names}: the removed channels are used inside the "
            "layer, or not linearly",
        )
    return replace(cut, weights=result, notes=notes)


def source_of(found: Units, call: Call, binding: Binding) -> tuple[Ref, int] | None:
    """Return the tensor that a call multiplies a weight's axis with, and the tensor's axis."""
    roots = found.root[binding.ids.ravel()]
    for weight, ref in _products(call):
        if weight is not binding.weight or not isinstance(ref, Ref):
            continue
        for axis, ids in reversed(list(enumerate(found.flow.axes(ref)))):
            if ids is not None and np.array_equal(found.root[ids], roots):
                return ref, axis
    return None


def _products(call: Call) -> Iterator[tuple[Any, Any]]:
    """Yield the weights that a call multiplies its arguments with first, and these arguments."""
    op = call.op
    if isinstance(op, (*LINEAR, *TRANSPOSED, kl.EinsumDense)):
        yield op.kernel, call.args[0]
    elif isinstance(op, kl.Bidirectional):
        for layer in (op.forward_layer, op.backward_layer):
            if isinstance(layer, RECURRENT):
                yield layer.cell.kernel, call.args[0]
    elif isinstance(op, RECURRENT):
        yield op.cell.kernel, call.args[0]
    elif isinstance(op, (kl.MultiHeadAttention, kl.GroupQueryAttention)):
        given = [call.kwargs.get(name) for name in ("query", "value", "key")]
        given[: len(call.args[:3])] = call.args[:3]
        query, value, key = given
        dense = projections_of(op)
        yield dense.query.kernel, query
        yield dense.value.kernel, value
        yield dense.key.kernel, value if key is None else key


def _repeats(found: Units, binding: Binding) -> int:
    """Return how often the same units repeat along an axis that is too long to solve at once."""
    roots = found.root[binding.ids]
    if roots.ndim > 1 or len(roots) <= MANY:
        return 1
    again = np.flatnonzero(roots[1:] == roots[0])
    size = int(again[0]) + 1 if len(again) else len(roots)
    if len(roots) % size or (roots.reshape(-1, size) != roots[:size]).any():
        return 1
    return len(roots) // size


def _compensate(found: Units, result: Weights, consumer: _Consumer, kept_mask: np.ndarray) -> None:
    """Add the removed rows of a weight to the kept ones."""
    binding, op = consumer.binding, consumer.op
    old = result[id(op)][consumer.place]
    rows = np.moveaxis(old.astype(np.float64), binding.axis, 0)
    groups = 1 if binding.along is None else len(binding.ids)
    per = len(rows) // consumer.repeats
    target = _bias_for(found, op, binding)
    added: list[np.ndarray] = []
    for group, (ids, columns) in enumerate(
        zip(np.atleast_2d(binding.ids), np.split(rows, groups, axis=-1), strict=True)
    ):
        part = columns.reshape(consumer.repeats, per, *columns.shape[1:]).copy()
        kept = np.flatnonzero(kept_mask[ids[:per]])
        removed = np.flatnonzero(~kept_mask[ids[:per]])
        here = group * per
        constant = target is not None
        a, b = consumer.moments.solve(here + kept, here + removed, constant=constant)
        part[:, kept] += np.einsum("dk,pd...->pk...", a, part[:, removed])
        added.append(np.einsum("d,pd...->...", b, part[:, removed]))
        columns[...] = part.reshape(columns.shape)
    arrays = list(result[id(op)])
    arrays[consumer.place] = np.moveaxis(rows, 0, binding.axis).astype(old.dtype)
    result[id(op)] = arrays
    if target is None:
        return
    total = np.concatenate(added, axis=-1)
    owner, place, sign = target
    arrays = list(result[id(owner)])
    bias = arrays[place].copy()
    # A GRU may have two biases; the first is added to the product of kernel and input.
    row = bias[0] if isinstance(op, kl.GRU) and bias.ndim == 2 else bias
    # Each tap of a convolution kernel receives the same constant.
    row += (sign * total.reshape(-1, *row.shape).sum(axis=0)).astype(bias.dtype)
    arrays[place] = bias
    result[id(owner)] = arrays


def _bias_for(found: Units, op: Any, binding: Binding) -> tuple[Any, int, int] | None:
    """Return where to add a constant to a weight's output: a layer, its weight, and a sign."""
    holder = next(one for one in all_layers(op) if _has(one, binding.weight))
    bias = getattr(holder, "bias", None)
    if isinstance(op, TRANSPOSED):
        return None
    if isinstance(holder, kl.EinsumDense) and isinstance(op, kl.EinsumDense):
        letters = letters_of(op.equation).kernel
        if (op.bias_axes or "") != letters[: binding.axis] + letters[binding.axis + 1 :]:
            return None
    if bias is not None:
        return op, places(op)[id(bias)], 1
    if not isinstance(op, LINEAR):
        return None
    calls = [call for call in found.graph.calls if call.op is op]
    reader = found.graph.only_reader(*calls[0].outputs)
    linear = op.activation is keras.activations.linear
    if len(calls) > 1 or reader is None or not linear or not _normalizes(found, reader, calls[0]):
        return None
    return reader.op, places(reader.op)[id(reader.op.moving_mean)], -1


def _has(layer: Any, weight: Any) -> bool:
    return any(own is weight for own in own_variables(layer))


def _normalizes(found: Units, reader: Call, call: Call) -> bool:
    """Return whether a call is a BatchNormalization of another call's channels only."""
    if not isinstance(reader.op, keras.layers.BatchNormalization):
        return False
    rank = len(found.graph.shape(*call.outputs))
    first = getattr(call.op, "data_format", "channels_last") == "channels_first"
    channels = 1 if first else rank - 1
    return reader.op.axis % rank == channels and found.flow.calls_of(reader.op) == 1
