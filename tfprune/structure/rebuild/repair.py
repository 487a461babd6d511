"""Making up for what goes, in closed form and from unlabeled data.

At each consumer, the channels that go are predicted from those that stay by least squares,
x_gone ≈ A·x_kept + b; their kernel rows are then spread over the rows that stay, and b goes to
the bias, or where there is none into the mean of the BatchNormalization that follows. Where
nothing can take b up, the prediction does without it. Nothing is trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import tree

from tfprune.data.batches import read
from tfprune.graph.inputs import flat_inputs, takes
from tfprune.graph.read import Call, Ref
from tfprune.keras_support.attention_steps import projections_of
from tfprune.keras_support.internals import all_layers, own_variables
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import USE, Binding, places
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.rebuild import execute, perform
from tfprune.structure.rebuild.weights import Weights
from tfprune.utils.einsum import letters_of

RIDGE = 1e-4
"""Of the mean variance of the channels that stay; keeps the solution small where they agree."""

MANY = 4096
"""Positions of an axis that are not predicted from each other one by one."""

LINEAR = (kl.Dense, kl.Conv1D, kl.Conv2D, kl.Conv3D)
TRANSPOSED = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
RECURRENT = (kl.SimpleRNN, kl.GRU, kl.LSTM)


class _Moments:
    """Sums from which means and covariances of channels come."""

    def __init__(self, size: int) -> None:
        self.count, self.total = 0, np.zeros(size)
        self.products = np.zeros((size, size))

    def add(self, rows: np.ndarray) -> None:
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        self.products += rows.T @ rows

    def solve(
        self, kept: np.ndarray, gone: np.ndarray, *, constant: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """A and b of x_gone ≈ A·x_kept + b; b is zero unless there may be a constant."""
        mean = self.total / self.count * constant
        covariance = self.products / self.count - np.outer(mean, mean)
        own = covariance[np.ix_(kept, kept)]
        ridge = RIDGE * max(float(np.trace(own)) / len(own), 1e-12)
        a = np.linalg.solve(own + ridge * np.eye(len(own)), covariance[np.ix_(kept, gone)]).T
        return a, mean[gone] - a @ mean[kept]


@dataclass(eq=False)
class _Ear:
    """An axis of a weight that is multiplied by some of what goes, and what it is told.

    Positions whose units repeat, as those of flattened images do, may be taken in `repeats`.
    """

    op: Any
    place: int
    binding: Binding
    repeats: int
    moments: _Moments


def repaired(cut: Cut, data: Any) -> Cut:
    """The cut with the weights in which what stays makes up for the units that go, and notes.

    Args:
        cut: What goes.
        data: Inputs, (inputs, labels) or batches of them; labels are not read.

    Raises:
        DataError: The data is missing, empty, not finite, or not what the model takes.
    """
    found, alive = cut.left, cut.alive
    ears: list[_Ear] = []
    told: dict[int, list[tuple[_Ear, Ref, int]]] = {}
    deaf: dict[str, None] = {}
    for site in found.sites:
        calls = [call for call in found.graph.calls if call.op is site.op]
        for binding in site.bindings:
            if binding.role != USE or alive[binding.ids].all():
                continue
            sources = [source_of(found, one, binding) for one in calls]
            heard = [source for source in sources if source is not None]
            if len(heard) < len(calls):
                deaf[calls[0].path] = None
                continue
            place = places(site.op)[id(binding.weight)]
            repeats = _repeats(found, binding)
            moments = _Moments(binding.ids.size // repeats)
            ears.append(ear := _Ear(site.op, place, binding, repeats, moments))
            for one, (ref, axis) in zip(calls, heard, strict=True):
                told.setdefault(id(one), []).append((ear, ref, axis))

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for ear, ref, axis in told.get(id(call), ()):
            specs = tree.flatten((call.args, call.kwargs))
            tensor = tree.flatten((args, kwargs))[specs.index(ref)]
            x = np.moveaxis(keras.ops.convert_to_numpy(tensor).astype(np.float64), axis, -1)
            ear.moments.add(x.reshape(-1, len(ear.moments.total)))
        return perform(call.op, args, kwargs)

    for batch in read(data, takes(found.graph), "repair", labels="ignored"):
        execute(found.graph, flat_inputs(found.graph, batch.inputs), run)
    result = dict(cut.weights)
    for ear in ears:
        _spread(found, result, ear, alive)
    notes = cut.notes
    if deaf:
        names = ", ".join(list(deaf)[:5])
        names += f" and {len(deaf) - 5} more" if len(deaf) > 5 else ""
        notes += (
            f"repair= does not reach all of {names}: what goes there is used inside of the layer, "
            "or by one that is not plainly linear in it",
        )
    return replace(cut, weights=result, notes=notes)


def source_of(found: Units, call: Call, binding: Binding) -> tuple[Ref, int] | None:
    """The tensor that a call multiplies a weight's axis with, and the axis of that tensor."""
    roots = found.root[binding.ids.ravel()]
    for weight, ref in _products(call):
        if weight is not binding.weight or not isinstance(ref, Ref):
            continue
        for axis, ids in reversed(list(enumerate(found.flow.axes(ref)))):
            if ids is not None and np.array_equal(found.root[ids], roots):
                return ref, axis
    return None


def _products(call: Call) -> Iterator[tuple[Any, Any]]:
    """The weights that a call multiplies its arguments with before anything else, and these."""
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
    """How often the same units come in a row along an axis that is too long to be solved whole."""
    roots = found.root[binding.ids]
    if roots.ndim > 1 or len(roots) <= MANY:
        return 1
    again = np.flatnonzero(roots[1:] == roots[0])
    size = int(again[0]) + 1 if len(again) else len(roots)
    if len(roots) % size or (roots.reshape(-1, size) != roots[:size]).any():
        return 1
    return len(roots) // size


def _spread(found: Units, result: Weights, ear: _Ear, alive: np.ndarray) -> None:
    """Spread the rows of a weight that go over those that stay."""
    binding, op = ear.binding, ear.op
    old = result[id(op)][ear.place]
    rows = np.moveaxis(old.astype(np.float64), binding.axis, 0)
    groups = 1 if binding.along is None else len(binding.ids)
    per = len(rows) // ear.repeats
    taken = _takes_constant(found, op, binding)
    added: list[np.ndarray] = []
    for group, (ids, columns) in enumerate(
        zip(np.atleast_2d(binding.ids), np.split(rows, groups, axis=-1), strict=True)
    ):
        part = columns.reshape(ear.repeats, per, *columns.shape[1:]).copy()
        kept = np.flatnonzero(alive[ids[:per]])
        gone = np.flatnonzero(~alive[ids[:per]])
        here = group * per
        a, b = ear.moments.solve(here + kept, here + gone, constant=taken is not None)
        part[:, kept] += np.einsum("dk,pd...->pk...", a, part[:, gone])
        added.append(np.einsum("d,pd...->...", b, part[:, gone]))
        columns[...] = part.reshape(columns.shape)
    arrays = list(result[id(op)])
    arrays[ear.place] = np.moveaxis(rows, 0, binding.axis).astype(old.dtype)
    result[id(op)] = arrays
    if taken is None:
        return
    constant = np.concatenate(added, axis=-1)
    owner, place, sign = taken
    arrays = list(result[id(owner)])
    bias = arrays[place].copy()
    # Two biases of a GRU: the first is added to what the kernel makes of its input.
    target = bias[0] if isinstance(op, kl.GRU) and bias.ndim == 2 else bias
    # A kernel that slides has the same constant at each of its taps.
    target += (sign * constant.reshape(-1, *target.shape).sum(axis=0)).astype(bias.dtype)
    arrays[place] = bias
    result[id(owner)] = arrays


def _takes_constant(found: Units, op: Any, binding: Binding) -> tuple[Any, int, int] | None:
    """Where a constant can be added to what a weight makes: a layer, a weight of it, a sign."""
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
    """Tell whether a call is a BatchNormalization of the channels of this one alone."""
    if not isinstance(reader.op, keras.layers.BatchNormalization):
        return False
    rank = len(found.graph.shape(*call.outputs))
    first = getattr(call.op, "data_format", "channels_last") == "channels_first"
    channels = 1 if first else rank - 1
    return reader.op.axis % rank == channels and found.flow.calls_of(reader.op) == 1
