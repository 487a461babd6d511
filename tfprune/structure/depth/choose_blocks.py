"""The importance of residual blocks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.errors import DataError
from tfprune.graph.graph import Call, Ref
from tfprune.graph.inputs import flat_inputs
from tfprune.graph.rebuild import execute, perform
from tfprune.graph.residual_blocks import ResidualBlock
from tfprune.keras_support.losses import loss_of
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import Binding, Site
from tfprune.structure.select.importance import UnitEvidence, score_units
from tfprune.utils.registry import Registry

BlockImportance = Callable[[UnitEvidence, Sequence[ResidualBlock]], np.ndarray]
"""A number for each block; high means keep, NaN that the block has no importance."""

BLOCK_IMPORTANCES: Registry[BlockImportance] = Registry("importance of blocks")
"""Importances measured on the output of a branch. All others are computed from its units."""


def score_blocks(
    importance: str | Callable, evidence: UnitEvidence, blocks: Sequence[ResidualBlock]
) -> np.ndarray:
    """Return the importance of each block.

    Taylor, hessian and activation are measured on the output of the branch. Any other importance
    is summed over the channels that the branch adds to, counting only the branch's own weights,
    and divided by the sum over all members of those channels.
    """
    if isinstance(importance, str) and importance in BLOCK_IMPORTANCES:
        return BLOCK_IMPORTANCES[importance](evidence, blocks)
    return _by_units(importance, evidence, blocks)


def _by_units(
    importance: str | Callable, evidence: UnitEvidence, blocks: Sequence[ResidualBlock]
) -> np.ndarray:
    found = evidence.found
    everything = score_units(importance, evidence)
    streams = [_stream(found, block) for block in blocks]
    own = np.full(len(blocks), np.nan)
    for place, (block, stream) in enumerate(zip(blocks, streams, strict=True)):
        ops = frozenset(id(call.op) for call in block.calls)
        alone = score_units(importance, replace(evidence, found=_Part.of(found, ops)))
        if len(stream) and not np.isnan(alone[stream]).all():
            own[place] = np.nansum(alone[stream])
    total = np.zeros(len(blocks))
    for place, stream in enumerate(streams):
        together = [np.array_equal(stream, other) for other in streams]
        members = np.nansum(everything[stream]) if len(stream) else 0.0
        total[place] = max(members, np.nansum(own[together]))
    return np.where(total > 0, own / np.where(total > 0, total, 1), own)


def _stream(found: Units, block: ResidualBlock) -> np.ndarray:
    """Return the roots of the channels that a branch adds to."""
    ids = [axis for axis in found.flow.axes(block.branch) if axis is not None]
    return np.unique(found.root[ids[-1]]) if ids else np.zeros(0, int)


@dataclass(frozen=True, eq=False)
class _Part(Units):
    """The units of a model with the bindings of some operations only."""

    ops: frozenset[int] = frozenset()

    @classmethod
    def of(cls, found: Units, ops: frozenset[int]) -> "_Part":
        return cls(
            found.model, found.graph, found.flow, found.root, found.groups, found.frozen, ops
        )

    @cached_property
    def bindings(self) -> list[tuple[Site, Binding]]:
        return [
            (site, binding)
            for site in self.sites
            if id(site.op) in self.ops
            for binding in site.bindings
        ]


@BLOCK_IMPORTANCES.register("random")
def at_random(evidence: UnitEvidence, blocks: Sequence[ResidualBlock]) -> np.ndarray:
    """Return random numbers, as a baseline."""
    return np.random.default_rng(evidence.seed).uniform(size=len(blocks))


@BLOCK_IMPORTANCES.register("taylor")
def taylor(evidence: UnitEvidence, blocks: Sequence[ResidualBlock]) -> np.ndarray:
    """Return |Σ F·∂L/∂F| of the output F of a branch, root mean square over the batches."""
    squares = [np.square(slopes) for slopes in _slopes(evidence, blocks)]
    return np.sqrt(np.mean(squares, axis=0))


@BLOCK_IMPORTANCES.register("hessian")
def hessian(evidence: UnitEvidence, blocks: Sequence[ResidualBlock]) -> np.ndarray:
    """Return ½·E[(Σ F·∂L/∂F)²]: the curvature along a branch's gate, by Fisher information."""
    return 0.5 * np.mean([np.square(slopes) for slopes in _slopes(evidence, blocks)], axis=0)


@BLOCK_IMPORTANCES.register("activation")
def activation(evidence: UnitEvidence, blocks: Sequence[ResidualBlock]) -> np.ndarray:
    """Return the RMS of a branch's output divided by that of the sum, over the data."""
    found = evidence.found
    at = {found.graph.calls[block.arm[0]].outputs[0].index: block for block in blocks}
    added, sums = dict.fromkeys(at, 0.0), dict.fromkeys(at, 0.0)

    def power(tensor: Any) -> float:
        return float(keras.ops.sum(keras.ops.square(keras.ops.cast(tensor, "float32"))))

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = perform(call.op, args, kwargs)
        index = call.outputs[0].index
        if index in at:
            specs = tree.flatten((call.args, call.kwargs))
            values = tree.flatten((args, kwargs))
            given = {s.index: v for s, v in zip(specs, values, strict=True) if isinstance(s, Ref)}
            added[index] += power(given[at[index].branch.index])
            sums[index] += power(made)
        return made

    for batch in evidence.batches:
        execute(found.graph, flat_inputs(found.graph, batch.inputs), run)
    return np.array([np.sqrt(added[index] / (sums[index] or 1.0)) for index in at])


def _slopes(evidence: UnitEvidence, blocks: Sequence[ResidualBlock]) -> Iterable[np.ndarray]:
    """Yield ∂L/∂g of each batch, where g = 1 multiplies the output of a branch."""
    import tensorflow as tf

    found = evidence.found
    loss = loss_of(found.model, evidence.loss)
    gates = tf.Variable(tf.ones(len(blocks)))
    at = {found.graph.calls[block.arm[0]].outputs[0].index: block for block in blocks}
    places = {index: place for place, index in enumerate(at)}
    for batch in evidence.batches:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(gates)

            def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                index = call.outputs[0].index
                if index not in at:
                    return perform(call.op, args, kwargs)

                def gated(spec: Any, tensor: Any) -> Any:
                    if spec != at[index].branch:
                        return tensor
                    return tensor * keras.ops.cast(gates[places[index]], tensor.dtype)

                args = tree.map_structure(gated, call.args, args)
                return perform(call.op, args, tree.map_structure(gated, call.kwargs, kwargs))

            outputs = execute(found.graph, flat_inputs(found.graph, batch.inputs), run)
            value = loss(batch.labels, outputs, batch.weights)
        slopes = tape.gradient(value, gates)
        if slopes is None or not np.isfinite(slopes.numpy()).all():
            raise DataError("data= gives gradients that are not finite: look for NaN in it")
        yield slopes.numpy().astype(np.float64)
