"""Making up for what goes, in closed form and from unlabelled data.

At each consumer, the channels that go are predicted from those that stay by least squares,
x_gone ≈ A·x_kept + b; their kernel rows are then spread over the rows that stay, and b goes to
the bias, or where there is none into the mean of the BatchNormalization that follows. Nothing is
trained.
"""

from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.structure.batches import as_batches, flat_inputs
from tfprune.structure.closed import input_of
from tfprune.structure.graph import Call, Ref
from tfprune.structure.rebuild import Weights, execute, perform
from tfprune.structure.site import USE, Ids
from tfprune.structure.units import Units

RIDGE = 1e-4
"""Of the mean variance of the channels that stay; keeps the solution small where they agree."""

LINEAR = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


class _Moments:
    """Sums from which means and covariances of channels come."""

    def __init__(self, size: int) -> None:
        self.count, self.total = 0, np.zeros(size)
        self.products = np.zeros((size, size))

    def add(self, rows: np.ndarray) -> None:
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        self.products += rows.T @ rows

    def solve(self, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A and b of x_gone ≈ A·x_kept + b."""
        mean = self.total / self.count
        covariance = self.products / self.count - np.outer(mean, mean)
        own = covariance[np.ix_(kept, kept)]
        ridge = RIDGE * max(float(np.trace(own)) / len(own), 1e-12)
        a = np.linalg.solve(own + ridge * np.eye(len(own)), covariance[np.ix_(kept, ~kept)]).T
        return a, mean[~kept] - a @ mean[kept]


def repaired(found: Units, weights: Weights, alive: np.ndarray, data: Any) -> Weights:
    """The weights, in full size, in which what stays makes up for what goes.

    Args:
        found: The units of the model.
        weights: Its weights.
        alive: For each id whether it stays.
        data: Inputs, (inputs, labels) or batches of them; labels are not read.

    Raises:
        DataError: The data is missing, empty, not finite, or not what the model takes.
    """
    ears: dict[int, tuple[Call, Ref, int, Ids, _Moments]] = {}
    for call in found.graph.calls:
        if not isinstance(call.op, LINEAR) or found.flow.calls_of(call.op) > 1:
            continue
        for binding in found.flow.sites[id(call.op)].bindings:
            if binding.role == USE and binding.ids.ndim == 1 and not alive[binding.ids].all():
                at = input_of(found, call, binding.ids)
                if at is not None:
                    ears[id(call)] = (call, *at, binding.ids, _Moments(len(binding.ids)))

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(call) in ears:
            _, ref, axis, ids, moments = ears[id(call)]
            specs = tree.flatten((call.args, call.kwargs))
            tensor = tree.flatten((args, kwargs))[specs.index(ref)]
            x = np.moveaxis(keras.ops.convert_to_numpy(tensor).astype(np.float64), axis, -1)
            moments.add(x.reshape(-1, len(ids)))
        return perform(call.op, args, kwargs)

    for inputs, _ in as_batches(data, "repair", len(tree.flatten(found.graph.inputs))):
        execute(found.graph, flat_inputs(found.graph, inputs, "repair"), run)
    result = dict(weights)
    for call, _, _, ids, moments in ears.values():
        kept = alive[ids]
        a, b = moments.solve(kept)
        kernel, *bias = result[id(call.op)]
        kernel = kernel.astype(np.float64)
        gone = kernel[..., ~kept, :]
        kernel[..., kept, :] += np.einsum("dk,...do->...ko", a, gone)
        taps = gone.reshape(-1, *gone.shape[-2:]).sum(axis=0)
        result[id(call.op)] = [kernel.astype(weights[id(call.op)][0].dtype), *bias]
        _add_constant(found, result, call, b @ taps)
    return result


def _add_constant(found: Units, weights: Weights, call: Call, constant: np.ndarray) -> None:
    """Add to what a layer makes: to its bias, or in the BatchNormalization that alone reads it."""
    layer, place, sign = call.op, 1, 1
    if not layer.use_bias:
        reader = found.graph.only_reader(*call.outputs)
        linear = layer.activation is keras.activations.linear
        if reader is None or not linear or not _normalises(found, reader, call):
            return
        layer, sign = reader.op, -1
        place = [weight is layer.moving_mean for weight in layer.weights].index(True)
    arrays = list(weights[id(layer)])
    arrays[place] = (arrays[place] + sign * constant).astype(arrays[place].dtype)
    weights[id(layer)] = arrays


def _normalises(found: Units, reader: Call, call: Call) -> bool:
    """Tell whether a call is a BatchNormalization of the channels of this one alone."""
    if not isinstance(reader.op, keras.layers.BatchNormalization):
        return False
    rank = len(found.graph.shape(*call.outputs))
    first = getattr(call.op, "data_format", "channels_last") == "channels_first"
    channels = 1 if first else rank - 1
    return reader.op.axis % rank == channels and found.flow.calls_of(reader.op) == 1
