"""Importances: a number for the root of each id; high means keep.

Each is a plain function of the evidence. Importances of weights are summed over all the members
of a unit. A unit for which an importance is not defined is NaN, and its group is kept whole.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import keras
import numpy as np
from keras import tree

from tfprune.data.batches import Batch, read
from tfprune.errors import DataError, OptionError
from tfprune.graph.graph import Call
from tfprune.graph.inputs import flat_inputs, takes
from tfprune.graph.rebuild import Weights, execute, perform
from tfprune.keras_support.losses import loss_of
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import MAKE, USE, Binding, blocks, places, positions
from tfprune.utils.registry import Registry


@dataclass(frozen=True, eq=False)
class UnitEvidence:
    """What importances are computed from."""

    found: Units
    weights: Weights
    data: Any = None
    loss: Any = None
    seed: int = 0

    def array(self, binding: Binding, site_op: Any) -> np.ndarray:
        """Return the array of a binding's weight."""
        return self.weights[id(site_op)][self._places[id(site_op), id(binding.weight)]]

    @cached_property
    def _places(self) -> dict[tuple[int, int], int]:
        return {
            (id(site.op), weight): place
            for site in self.found.sites
            for weight, place in places(site.op).items()
        }

    def members(self, *roles: str) -> Iterator[tuple[Any, Binding]]:
        """Yield the weight axes of these roles, with their layer."""
        for site, binding in self.found.bindings:
            if binding.role in roles:
                yield site.op, binding

    @cached_property
    def batches(self) -> list[Batch]:
        """The data as batches of inputs, labels and weights.

        Raises:
            DataError: There is none, or it is empty.
        """
        if self.data is None:
            raise DataError(
                "data=: this importance needs data: pass (inputs, labels), inputs if it uses no "
                "labels, or an iterable of batches"
            )
        return list(read(self.data, takes(self.found.graph), "data"))

    @property
    def samples(self) -> int:
        """How many samples the batches hold."""
        return sum(batch.size for batch in self.batches)


class Importance(Protocol):
    """Returns a number for each id, valid at the roots of units; NaN if not defined."""

    def __call__(self, evidence: UnitEvidence) -> np.ndarray:
        """Return the importance of all units."""


IMPORTANCES: Registry[Importance] = Registry("importance")


def by_weights(measure: Callable[[np.ndarray], np.ndarray]) -> Importance:
    """Return an importance from a function of a weight laid out as (positions, everything else)."""

    def importance(evidence: UnitEvidence) -> np.ndarray:
        score = np.zeros(evidence.found.flow.size)
        root = evidence.found.root
        for op, binding in evidence.members(MAKE, USE):
            array = evidence.array(binding, op)
            for ids, rows in positions(array, binding):
                given = measure(rows)
                try:
                    values = np.asarray(given, np.float64)
                except (TypeError, ValueError):
                    raise OptionError(
                        f"importance: the callable must return numbers. Received {given!r}"
                    ) from None
                if values.shape != (len(rows),):
                    raise OptionError(
                        f"importance: the callable must return one number for each of {len(rows)} "
                        f"positions. Received an array of shape {values.shape}"
                    )
                np.add.at(score, root[ids], values)
        return score

    importance.__doc__ = measure.__doc__
    return importance


@IMPORTANCES.register("l1")
@by_weights
def l1(rows: np.ndarray) -> np.ndarray:
    """Return Σ|w|, summed over the weights that make or use a unit."""
    return np.abs(rows).sum(axis=1)


@IMPORTANCES.register("l2")
def l2(evidence: UnitEvidence) -> np.ndarray:
    """Return √Σw², summed over the weights that make or use a unit."""
    score = np.zeros(evidence.found.flow.size)
    root = evidence.found.root
    for op, binding in evidence.members(MAKE, USE):
        for ids, block in blocks(evidence.array(binding, op), binding):
            np.add.at(score, root[ids], np.sqrt(squares(block, binding.axis)))
    return score


def squares(array: np.ndarray, axis: int) -> np.ndarray:
    """Return the sum of squares at each position of an axis, without a copy of the array.

    Example:
        >>> squares(np.array([[1.0, 2.0], [3.0, 4.0]]), 1).tolist()
        [10.0, 20.0]
    """
    if array.itemsize < 4:
        array = array.astype(np.float32)
    flat = array.reshape(math.prod(array.shape[:axis]), array.shape[axis], -1)
    return np.einsum("iaj,iaj->a", flat, flat)


@IMPORTANCES.register("lamp")
def lamp(evidence: UnitEvidence) -> np.ndarray:
    """Return u² divided by the sum of all u² in its group that are not less (Lee et al., 2021)."""
    score = np.zeros(evidence.found.flow.size)
    root = evidence.found.root
    for op, binding in evidence.members(MAKE, USE):
        for ids, rows in positions(evidence.array(binding, op), binding):
            np.add.at(score, root[ids], np.square(rows.astype(np.float64)).sum(axis=1))
    for group in evidence.found.groups:
        mine = score[group.units]
        order = np.argsort(mine, kind="stable")
        rest = np.cumsum(mine[order][::-1])[::-1]
        score[group.units[order]] = mine[order] / np.where(rest > 0, rest, 1)
    return score


@IMPORTANCES.register("fpgm")
def fpgm(evidence: UnitEvidence) -> np.ndarray:
    """Return the sum of distances to all other filters: one near their median is redundant."""
    score = np.zeros(evidence.found.flow.size)
    for op, binding in evidence.members(MAKE):
        for ids, rows in positions(evidence.array(binding, op), binding):
            rows = rows.astype(np.float64)
            square = np.square(rows).sum(axis=1)
            distance = square[:, None] + square[None, :] - 2 * rows @ rows.T
            total = np.sqrt(np.maximum(distance, 0)).sum(axis=1)
            np.add.at(score, evidence.found.root[ids], total)
    return score


@IMPORTANCES.register("bn_scale")
def bn_scale(evidence: UnitEvidence) -> np.ndarray:
    """Return |γ|, summed over the BatchNormalizations of a unit (Liu et al., 2017)."""
    score = np.full(evidence.found.flow.size, np.nan)
    root = evidence.found.root
    for _, binding in evidence.found.bindings:
        if binding.scale:
            at = root[binding.ids]
            score[at] = np.nan_to_num(score[at])
    for site, binding in evidence.found.bindings:
        if binding.scale:
            gamma = np.abs(evidence.array(binding, site.op)).astype(np.float64)
            np.add.at(score, root[binding.ids], gamma)
    return score


@IMPORTANCES.register("random")
def at_random(evidence: UnitEvidence) -> np.ndarray:
    """Return random numbers, as a baseline."""
    return np.random.default_rng(evidence.seed).uniform(size=evidence.found.flow.size)


@IMPORTANCES.register("taylor")
def taylor(evidence: UnitEvidence) -> np.ndarray:
    """Return |Σ w·∂L/∂w| over the weights that a removal zeroes, RMS over the samples.

    This is the first-order change of the loss when the unit is removed: at the weights that use a
    unit, Σ w·∂L/∂w equals Σ x·∂L/∂x of their input x, which includes what BatchNormalizations and
    biases before them have added.
    """
    total = np.zeros(evidence.found.flow.size)
    for batch, gradients in zip(evidence.batches, _gradients(evidence), strict=True):
        here = np.zeros_like(total)
        for op, binding, counts in _zeroed(evidence):
            product = evidence.array(binding, op).astype(np.float64) * gradients[id(binding.weight)]
            for ids, rows in positions(product, binding):
                roots = evidence.found.root[ids]
                np.add.at(here, roots, counts[roots] * rows.sum(axis=1))
        total += batch.size * np.square(here)
    return np.sqrt(total / evidence.samples)


@IMPORTANCES.register("hessian")
def hessian(evidence: UnitEvidence) -> np.ndarray:
    """Return ½·w²·E[(∂L/∂w)²] over the weights that a removal zeroes (Fisher information)."""
    total = np.zeros(evidence.found.flow.size)
    for batch, gradients in zip(evidence.batches, _gradients(evidence), strict=True):
        for op, binding, counts in _zeroed(evidence):
            array = evidence.array(binding, op).astype(np.float64)
            for ids, rows in positions(np.square(array * gradients[id(binding.weight)]), binding):
                roots = evidence.found.root[ids]
                np.add.at(total, roots, batch.size * counts[roots] * 0.5 * rows.sum(axis=1))
    return total / evidence.samples


def _zeroed(evidence: UnitEvidence) -> Iterator[tuple[Any, Binding, np.ndarray]]:
    """Yield the weights that a removal zeroes, each with a mask of the units that count in it.

    These are the weights that use a unit, or those that make it if none uses it, as for the
    queries and keys of attention.
    """
    used = np.zeros(evidence.found.flow.size, bool)
    for _, binding in evidence.members(USE):
        used[evidence.found.root[binding.ids]] = True
    for op, binding in evidence.members(USE):
        yield op, binding, used
    for op, binding in evidence.members(MAKE):
        if not used[evidence.found.root[binding.ids]].all():
            yield op, binding, ~used


@IMPORTANCES.register("activation")
def activation(evidence: UnitEvidence) -> np.ndarray:
    """Return the mean absolute value of a unit's activations over the data."""
    found = evidence.found
    size = found.flow.size
    score, seen, weight = np.zeros(size), np.zeros(size, bool), 0.0
    makers = {id(site.op) for site, binding in found.bindings if binding.role == MAKE}

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = perform(call.op, args, kwargs)
        if id(call.op) in makers:
            for ref, tensor in zip(call.outputs, tree.flatten(made), strict=True):
                for axis, ids in enumerate(found.flow.axes(ref)):
                    if ids is None:
                        continue
                    others = [p for p in range(len(tensor.shape)) if p != axis]
                    mean = keras.ops.mean(keras.ops.abs(keras.ops.cast(tensor, "float32")), others)
                    share = weight * keras.ops.convert_to_numpy(mean)
                    np.add.at(score, found.root[ids], share)
                    seen[found.root[ids]] = True
        return made

    for batch in evidence.batches:
        weight = batch.size / evidence.samples
        execute(found.graph, flat_inputs(found.graph, batch.inputs), run)
    return np.where(seen, score, np.nan)


def _gradients(evidence: UnitEvidence) -> Iterable[dict[int, np.ndarray]]:
    """Yield the gradients of the loss on each batch, for every bound weight."""
    import tensorflow as tf

    found = evidence.found
    loss = loss_of(found.model, evidence.loss)
    bound = {id(binding.weight): binding.weight for _, binding, _ in _zeroed(evidence)}
    for batch in evidence.batches:
        given = flat_inputs(found.graph, batch.inputs)
        struct = tree.pack_sequence_as(found.graph.inputs, given)
        values = [variable.value for variable in bound.values()]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            value = loss(batch.labels, found.model(struct, training=False), batch.weights)
        found_gradients = tape.gradient(value, values)
        result = {}
        for key, variable, gradient in zip(bound, bound.values(), found_gradients, strict=True):
            if gradient is None:
                result[key] = np.zeros(variable.shape)
            else:
                result[key] = np.asarray(tf.convert_to_tensor(gradient), np.float64)
        if not all(np.isfinite(array).all() for array in result.values()):
            raise DataError("data= gives gradients that are not finite: look for NaN in it")
        yield result


def score_units(importance: str | Callable, evidence: UnitEvidence) -> np.ndarray:
    """Return the importance of all ids.

    Raises:
        OptionError: The importance is unknown, or returned infinite scores.
    """
    if callable(importance):
        score = by_weights(importance)(evidence)
    else:
        score = IMPORTANCES[importance](evidence)
    if np.isinf(score).any():
        raise OptionError(f"importance {importance!r} returned infinite scores")
    return score
