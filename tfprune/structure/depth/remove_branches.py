"""Branches that go whole: what is left of the model without them, and the proof of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.graph.residual_blocks import Arm, Block, addends, without
from tfprune.structure.groups.units import Units, units_of
from tfprune.structure.proof.prove import Proof, prove
from tfprune.structure.rebuild.rebuild import Weights, rebuild


@dataclass(frozen=True, eq=False)
class Branches:
    """Addends to be taken out of their sums.

    Attributes:
        arms: Where they are, with the constant to put in the place of each, or None for nothing.
        notes: What is to be said about them.
    """

    arms: Mapping[Arm, np.ndarray | None]
    notes: tuple[str, ...] = ()

    def taken_from(self, found: Units, input_shape: Any) -> Units:
        """The units of what is left of a model."""
        if not self.arms:
            return found
        graph = without(found.graph, self.arms)
        return units_of(found.model, graph, input_shape=input_shape)

    def planned(self, found: Units) -> tuple[Block, ...]:
        """Those that a plan can take out of another model of the same architecture."""
        gone = [block for block in found.blocks if block.arm in self.arms]
        return tuple(block for block in gone if self.arms[block.arm] is None)


def branches_of(blocks: Iterable[Block], notes: tuple[str, ...] = ()) -> Branches:
    """The branches that some blocks are."""
    return Branches({block.arm: None for block in blocks}, notes)


def prove_branches(
    found: Units,
    left: Units,
    branches: Branches,
    weights: Weights,
    built: tuple[Any, dict[int, Any]] | None = None,
    *,
    seed: int,
    input_shape: Any,
) -> Proof:
    """Compare what is left of a model with the model whose branches are silenced to zero.

    Args:
        found: The units of the model.
        left: Those of what is left of it.
        branches: What was taken out.
        weights: All weights of the model.
        built: What is left, built, and its operations by the `id` of the original; None builds it.
        seed: For the inputs.
        input_shape: The shape of the input, where the model leaves it open.

    Raises:
        ModelError: They differ.
    """
    small, ops = built or rebuild(left, np.ones(left.flow.size, bool), weights)
    muted: dict[int, set[int]] = {}
    for place, position in branches.arms:
        call = found.graph.calls[place]
        muted.setdefault(id(call), set()).add(addends(call)[position].index)
    everything = np.ones(found.flow.size, bool)
    return prove(
        found,
        everything,
        weights,
        small,
        ops,
        seed=seed,
        input_shape=input_shape,
        left=left,
        muted=muted,
    )
