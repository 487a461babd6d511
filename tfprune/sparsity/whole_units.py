"""Channels and heads held at zero as wholes: one unit is a slice of several variables at once.

Which slices belong to one unit is known to `tfprune.structure`, which is asked when a model is
there; what is here only chooses among units.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import ModelError, type_name
from tfprune.sparsity.choices.allocation import Allocation, Share
from tfprune.sparsity.choices.patterns import WholeUnits
from tfprune.sparsity.kernels import Kernel, Skipped


class Joint(Protocol):
    """The whole units of one model, in groups that are alike.

    Attributes:
        kernels: Every variable that is held: kernels, and what else would make a unit speak.
        skipped: What has units that cannot be closed, and why.
    """

    @property
    def kernels(self) -> Sequence[Kernel]: ...

    @property
    def skipped(self) -> Sequence[Skipped]: ...

    def shares(self, scores: Sequence[NDArray]) -> list[Share]:
        """Return a share for each group, from the scores of every variable in full shape.

        A unit's score is the mean over the kernels that make it, each measured by the mean of
        its group in that kernel, so that no kernel and no group speaks louder than another.
        """

    def masks(self, shares: Sequence[Share], counts: Sequence[int]) -> list[NDArray[np.bool_]]:
        """Return the mask of every variable when so many units of each group stay."""


def join(pattern: WholeUnits, roots: Sequence[Any], only: Any, skip: Any) -> Joint:
    """Return the units of a model that a pattern is about.

    Raises:
        ModelError: If there is no whole built model, or it has no such unit.
        FilterError: If a filter matches no group of units.
    """
    import keras

    if len(roots) != 1 or not isinstance(roots[0], keras.Model):
        received = ", ".join(type_name(root) for root in roots)
        raise ModelError(
            f"prune: pattern {pattern.kind!r} needs the whole model, since units reach over its "
            f"layers. Received {received}. Give the model, and name layers with only="
        )
    # The one place where this part reaches the next: structure imports masks, so not at the top.
    from tfprune.sparsity.unit_masks import units_to_close

    return units_to_close(roots[0], pattern.kind, only, skip)


def choose_masks(
    joint: Joint,
    scores: Sequence[NDArray],
    allocation: Allocation,
    sparsity: float,
    progress: float,
) -> list[NDArray[np.bool_]]:
    """Return the mask of every variable that a joint holds."""
    shares = joint.shares(scores)
    return joint.masks(shares, allocation(shares, sparsity, progress))


def are_closed(
    joint: Joint, arrays: Sequence[NDArray], allocation: Allocation, sparsity: float
) -> bool:
    """Say whether as many units are zero as a sparsity asks for."""
    shares = joint.shares([np.abs(array) for array in arrays])
    asked = sum(
        share.units.size - count
        for share, count in zip(shares, allocation(shares, sparsity, 1.0), strict=True)
    )
    zero = sum(int(np.count_nonzero(share.units == 0)) for share in shares)
    return zero >= 0.99 * asked
