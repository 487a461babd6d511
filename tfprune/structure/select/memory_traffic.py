"""Estimating how much of a model's time each group of units takes, beyond multiplications.

An operation takes time for its multiplications and for memory traffic. Halving a wide layer on a
small image saves multiplications; halving an early expansion before a depthwise convolution saves
few of them and much time.
"""

import math
from collections.abc import Sequence

import keras
import numpy as np

from tfprune.graph.call_kinds import layers_named
from tfprune.graph.graph import Call
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.flow import product
from tfprune.structure.ids.ids import Ids

MACS_PER_NUMBER = 25
"""Multiplications that take as long as one number read or written (XNNPACK, x86, one thread)."""

FOLDED = layers_named("BatchNormalization ReLU Dropout ZeroPadding2D Rescaling Normalization")
"""Layers that a converter fuses into the neighboring convolution."""

Term = tuple[float, tuple[Ids, ...]]


def intensities(found: Units) -> np.ndarray:
    """Return, for each group, its share of the time over its share of the multiplications.

    Above 1, a group's units take more time than their multiplications suggest. It is 1 for a
    group without multiplications, and NaN if the model leaves sizes of its input open.

    Example:
        >>> import keras
        >>> import tfprune
        >>> inputs = keras.Input((32, 32, 3))
        >>> x = keras.layers.Conv2D(16, 1, name="early")(inputs)
        >>> x = keras.layers.MaxPooling2D(8)(x)
        >>> x = keras.layers.Conv2D(256, 3, name="late")(x)
        >>> model = keras.Model(inputs, keras.layers.Conv2D(8, 1)(x))
        >>> early, late = intensities(tfprune.units(model))
        >>> bool(early > 2 * late)
        True
    """
    member = np.full(found.flow.size, -1)
    for group in found.groups:
        member[group.units] = group.index
    member = member[found.root]
    multiplied = [(cost.factor, cost.vectors) for cost in found.flow.costs]
    macs, total = _by_group(found, member, multiplied)
    moved, all_moved = _by_group(found, member, _moves(found))
    time = macs + MACS_PER_NUMBER * moved
    with np.errstate(divide="ignore", invalid="ignore"):
        share = time / (total + MACS_PER_NUMBER * all_moved)
        return np.where(macs == 0, 1.0, share / (macs / total))


def _moves(found: Units) -> list[Term]:
    """Return how many numbers each call reads and writes, for one sample."""
    terms: list[Term] = []
    for call in found.graph.calls:
        if isinstance(call.op, FOLDED) or _is_relu(call):
            continue
        for ref in (*call.inputs, *call.outputs):
            terms.append(product(found.flow.extents(ref)))
    return terms


def _is_relu(call: Call) -> bool:
    return getattr(call.op, "activation", None) is keras.activations.relu and not call.op.weights


def _by_group(found: Units, member: np.ndarray, terms: Sequence[Term]) -> tuple[np.ndarray, float]:
    """Return each group's part of a sum of products, per removed share, and the whole sum."""
    result = np.zeros(len(found.groups))
    total = 0.0
    shares: dict[int, np.ndarray] = {}
    for factor, vectors in terms:
        value = factor * math.prod(ids.size for ids in vectors)
        total += value
        for ids in vectors:
            if id(ids) not in shares:
                counts = np.bincount(member[ids.ravel()] + 1, minlength=len(result) + 1)
                shares[id(ids)] = counts[1:] / ids.size
            result += value * shares[id(ids)]
    return result, total
