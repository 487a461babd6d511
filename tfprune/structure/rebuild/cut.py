"""What goes from a model: branches whole, and units of what is left. Nothing is built yet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tfprune.graph.residual_blocks import Arm, Block, without
from tfprune.structure.groups.units import Units, units_of
from tfprune.structure.rebuild.weights import Weights, read_weights

NOTHING = np.zeros(0, int)
"""The roots of no units."""


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


@dataclass(frozen=True, eq=False)
class Cut:
    """A model, and what is taken out of it: branches first, then units of what is left.

    Attributes:
        whole: The units of the model as it was given.
        left: The units of what is left of it without the branches.
        weights: The arrays of the model in full size, with what makes up for what goes.
        branches: The branches that go.
        removed: The roots of the units of `left` that go.
        drop: The `id`s of operations that are left out: they give what they are given.
        notes: What is to be said about the units.
        same: Whether the model computes the same without them, and not only the same as with
            them silenced.
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
    def alive(self) -> np.ndarray:
        """For each id of what is left, whether it stays."""
        return self.left.alive(self.removed)

    def without(self, branches: Branches, input_shape: Any) -> "Cut":
        """The cut that takes these branches out of the whole model."""
        left = branches.taken_from(self.whole, input_shape)
        return replace(self, branches=branches, left=left)


def uncut(found: Units) -> Cut:
    """The cut by which nothing goes."""
    return Cut(found, found, read_weights(found))
