"""How much of a model's time hangs on each group of units, beyond its multiplications.

An operation takes time for what it multiplies and for what it moves through memory. Half of a
wide layer on a small image saves multiplications; half of an early expansion, which a depthwise
convolution follows, saves few of them and much time.
"""

import math
from collections.abc import Sequence

import keras
import numpy as np

from tfprune.graph.read import Call
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.flow import product
from tfprune.structure.ids.ids import Ids

MACS_PER_NUMBER = 25
"""Multiplications that take as long as one number read or written (XNNPACK, x86, one thread)."""

FOLDED = (
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Dropout,
    keras.layers.ZeroPadding2D,
    keras.layers.Rescaling,
    keras.layers.Normalization,
)
"""What a converter makes part of the convolution beside it."""

Term = tuple[float, tuple[Ids, ...]]


def intensities(found: Units) -> np.ndarray:
    """For each group, its share of the time over its share of the multiplications.

    Above 1, a group's units cost more time than their multiplications tell. It is 1 for a group
    that multiplies nothing, and NaN where the model leaves sizes of its input open.

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
    """What each call reads and writes, as numbers of one sample."""
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
    """What a sum of products loses, relative to the share of a group that goes, and the sum."""
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
