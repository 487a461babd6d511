"""Rankings, which distribute a removal over groups; rounding, caps and filters of groups."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfprune.errors import FilterError, OptionError, nearest
from tfprune.structure.groups.grouping import Group
from tfprune.structure.groups.units import Units
from tfprune.structure.select.cost_meter import nearest_multiple
from tfprune.utils.filters import Filter, matches
from tfprune.utils.registry import Registry


@dataclass(frozen=True, eq=False)
class RankedGroup:
    """A group to cut: its bundles from the least to the most important.

    `intensity` is the group's share of the time over its share of the multiplications.
    """

    group: Group
    bundles: np.ndarray
    scores: np.ndarray
    step: int
    most_removed: int
    intensity: float = 1.0

    def kept(self, wanted: float) -> int:
        """Return how many bundles to keep for a wanted count, after rounding and cap."""
        count = len(self.bundles)
        if wanted >= count:
            return count
        least = math.ceil(max(1, count - self.most_removed) / self.step) * self.step
        return max(nearest_multiple(wanted, self.step, count), min(least, count))

    def removed(self, kept: int) -> np.ndarray:
        """Return the roots to remove if `kept` bundles are kept."""
        return self.bundles[: len(self.bundles) - kept].ravel()


@dataclass(frozen=True)
class Selection:
    """The roots of the units to remove, and notes for the report."""

    removed: np.ndarray
    notes: tuple[str, ...] = field(default=())


Ranking = Callable[[Sequence[RankedGroup], float], list[float]]
"""Returns how many bundles to keep in each group if a share of all is removed."""

RANKINGS: Registry[Ranking] = Registry("ranking")

AGAINST = "Raise cap, lower round_to, or keep more"
"""The fix for a target that the options do not allow."""

LEAST_FOR_SPEED = 0.2
"""The least share of a group that "fast" keeps, unless a uniform choice keeps less."""


@RANKINGS.register("uniform")
def uniform(candidates: Sequence[RankedGroup], share: float) -> list[float]:
    """Keep the same share of each group."""
    return [len(candidate.bundles) * (1 - share) for candidate in candidates]


@RANKINGS.register("fast")
def fast(candidates: Sequence[RankedGroup], share: float) -> list[float]:
    """Keep less of a group whose units take more time than their multiplications suggest.

    The file is then faster for the same multiplications. No group is cut below a fifth for this
    reason.
    """
    if any(math.isnan(candidate.intensity) for candidate in candidates):
        raise OptionError(
            "ranking 'fast' needs the sizes of all tensors: pass input_shape=, without the batch"
        )
    kept = 1 - share
    return [
        len(candidate.bundles)
        * min(1.0, max(kept / candidate.intensity, min(kept, LEAST_FOR_SPEED)))
        for candidate in candidates
    ]


@RANKINGS.register("global")
def across(candidates: Sequence[RankedGroup], share: float) -> list[float]:
    """Remove the least important bundles of all groups, each relative to its group's mean."""
    if not candidates:
        return []
    scores = np.concatenate([_relative(candidate.scores) for candidate in candidates])
    owner = np.repeat(np.arange(len(candidates)), [len(c.bundles) for c in candidates])
    order = np.argsort(scores, kind="stable")
    removed = np.bincount(owner[order[: round(share * len(order))]], minlength=len(candidates))
    return [
        float(len(candidate.bundles) - count)
        for candidate, count in zip(candidates, removed, strict=True)
    ]


@RANKINGS.register("isomorphic")
def isomorphic(candidates: Sequence[RankedGroup], share: float) -> list[float]:
    """Apply "global" within each set of groups of the same structure (Fang et al., 2024)."""
    kinds: dict[tuple, list[int]] = {}
    for index, candidate in enumerate(candidates):
        kinds.setdefault(_shape_of(candidate.group), []).append(index)
    wanted = [0.0] * len(candidates)
    for indices in kinds.values():
        part = across([candidates[index] for index in indices], share)
        for index, count in zip(indices, part, strict=True):
            wanted[index] = count
    return wanted


def _relative(scores: np.ndarray) -> np.ndarray:
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _shape_of(group: Group) -> tuple:
    """Return the structure of a group, without the names and widths of its layers."""
    producers = sorted(f"{type(p.op).__name__}.{p.key}" for p in group.producers)
    members = sorted(f"{m.weight}.{m.axis}.{m.role}" for m in group.members)
    return (*producers, *members)


def names_of(group: Group) -> list[str]:
    """Return the names that a filter can match: of the group, and of the layers that make it."""
    return [group.name, *group.layers]


def check_filters(found: Units, option: str, filters: Sequence[Filter]) -> None:
    """Raise for a filter that matches no group, with the reason if the layer is frozen.

    Raises:
        FilterError: Names the filter, and the nearest group.
    """
    for entry in filters:
        if any(matches(entry, group, names_of(group)) for group in found.groups):
            continue
        frozen = [] if callable(entry) else [f for f in found.frozen if f.layer == entry]
        if frozen:
            raise FilterError(
                f"{option}: {entry!r} cannot be cut: {frozen[0].reason}. "
                "tfprune.units(model) lists what can"
            )
        known = [group.name for group in found.groups]
        what = "the predicate" if callable(entry) else repr(entry)
        raise FilterError(
            f"{option}: {what} matches nothing that can be cut. {nearest(str(entry), known)}"
        )


def bundle(group: Group, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bundles of a group, from the least to the most important, and their scores.

    If blocks must keep equal counts, the r-th least important units of all blocks form a bundle.
    Of equally important units the one with the lower index is kept.
    """
    rows, sums = [], []
    for block in range(group.block_count):
        mine = np.flatnonzero(group.blocks == block)
        order = mine[np.lexsort((-mine, scores[mine]))]
        rows.append(group.units[order])
        sums.append(scores[order])
    return np.stack(rows, axis=1), np.sum(sums, axis=0)
