"""The description of a cut: the branches to remove, then the units of the remaining model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tfprune.graph.rebuild import Weights, read_weights
from tfprune.graph.residual_blocks import Arm, ResidualBlock, without
from tfprune.structure.groups.units import Units, units_of

NOTHING = np.zeros(0, int)
"""The roots of no units."""


@dataclass(frozen=True, eq=False)
class Branches:
    """Addends to remove from their sums.

    Attributes:
        arms: Their places, each with the constant that replaces it, or None.
        notes: Notes for the report.
    """

    arms: Mapping[Arm, np.ndarray | None]
    notes: tuple[str, ...] = ()

    def taken_from(self, found: Units, input_shape: Any) -> Units:
        """Return the units of a model without these branches."""
        if not self.arms:
            return found
        graph = without(found.graph, self.arms)
        return units_of(found.model, graph, input_shape=input_shape)

    def planned(self, found: Units) -> tuple[ResidualBlock, ...]:
        """Return the blocks that a plan can remove from another model of the same architecture."""
        removed = [block for block in found.blocks if block.arm in self.arms]
        return tuple(block for block in removed if self.arms[block.arm] is None)


def branches_of(blocks: Iterable[ResidualBlock], notes: tuple[str, ...] = ()) -> Branches:
    """Return the branches of some blocks."""
    return Branches({block.arm: None for block in blocks}, notes)


@dataclass(frozen=True, eq=False)
class Cut:
    """A model, and what to remove from it: branches first, then units of the rest.

    Attributes:
        whole: The units of the original model.
        left: The units of the model without the removed branches.
        weights: The arrays of the model in full size, including repairs and folded constants.
        branches: The branches to remove.
        removed: The roots of the units of `left` to remove.
        drop: The `id`s of operations that are replaced by the identity.
        notes: Notes on the units for the report.
        same: Whether the smaller model computes the same as the original, not only the same as
            the original with the removed units zeroed.
    """

    whole: Units
    left: Units
    weights: Weights
    branches: Branches = Branches({})
    removed: np.ndarray = field(default_factory=lambda: NOTHING)
    drop: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    same: bool = False

    @cached_property
    def kept_mask(self) -> np.ndarray:
        """For each id of `left`, whether it is kept."""
        return self.left.kept_mask(self.removed)

    def without(self, branches: Branches, input_shape: Any) -> "Cut":
        """Return the cut that removes these branches from the whole model."""
        left = branches.taken_from(self.whole, input_shape)
        return replace(self, branches=branches, left=left)


def uncut(found: Units) -> Cut:
    """Return the cut that removes nothing."""
    return Cut(found, found, read_weights(found.graph))
