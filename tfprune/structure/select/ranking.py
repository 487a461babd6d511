"""How a total is shared out over groups, which are rounded and capped; and their filters."""

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
class Candidate:
    """A group that may be cut: its bundles from the least to the most important.

    `intensity` is the group's share of the time over its share of the multiplications.
    """

    group: Group
    bundles: np.ndarray
    scores: np.ndarray
    step: int
    most_removed: int
    intensity: float = 1.0

    def kept(self, asked: float) -> int:
        """How many bundles stay when about `asked` should."""
        count = len(self.bundles)
        if asked >= count:
            return count
        least = math.ceil(max(1, count - self.most_removed) / self.step) * self.step
        return max(nearest_multiple(asked, self.step, count), min(least, count))

    def removed(self, kept: int) -> np.ndarray:
        """The roots that go when `kept` bundles stay."""
        return self.bundles[: len(self.bundles) - kept].ravel()


@dataclass(frozen=True)
class Choice:
    """The roots of the units that go, and what is to be said about the choice."""

    removed: np.ndarray
    notes: tuple[str, ...] = field(default=())


Ranking = Callable[[Sequence[Candidate], float], list[float]]
"""How many bundles of each group should stay when a share of all is to go."""

RANKINGS: Registry[Ranking] = Registry("ranking")

AGAINST = "Raise cap, lower round_to, or let more stay"
"""What helps where more is asked for than can go."""

LEAST_FOR_SPEED = 0.2
"""The share of a group that "fast" leaves, where a uniform choice would leave more."""


@RANKINGS.register("uniform")
def uniform(candidates: Sequence[Candidate], share: float) -> list[float]:
    """The same share of each group."""
    return [len(candidate.bundles) * (1 - share) for candidate in candidates]


@RANKINGS.register("fast")
def fast(candidates: Sequence[Candidate], share: float) -> list[float]:
    """Less of a group whose units take more time than their multiplications tell.

    So the same multiplications are left, and the file is faster. No group is cut below a fifth
    on that account.
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
def across(candidates: Sequence[Candidate], share: float) -> list[float]:
    """The least important of all, each measured by the mean of its own group."""
    if not candidates:
        return []
    scores = np.concatenate([_relative(candidate.scores) for candidate in candidates])
    owner = np.repeat(np.arange(len(candidates)), [len(c.bundles) for c in candidates])
    order = np.argsort(scores, kind="stable")
    gone = np.bincount(owner[order[: round(share * len(order))]], minlength=len(candidates))
    return [
        float(len(candidate.bundles) - count)
        for candidate, count in zip(candidates, gone, strict=True)
    ]


@RANKINGS.register("isomorphic")
def isomorphic(candidates: Sequence[Candidate], share: float) -> list[float]:
    """The least important within each kind of groups that are built alike (Fang et al., 2024)."""
    kinds: dict[tuple, list[int]] = {}
    for index, candidate in enumerate(candidates):
        kinds.setdefault(_shape_of(candidate.group), []).append(index)
    asked = [0.0] * len(candidates)
    for indices in kinds.values():
        part = across([candidates[index] for index in indices], share)
        for index, count in zip(indices, part, strict=True):
            asked[index] = count
    return asked


def _relative(scores: np.ndarray) -> np.ndarray:
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _shape_of(group: Group) -> tuple:
    """What a group is made of, whatever its layers are called and however wide they are."""
    makers = sorted(f"{type(p.op).__name__}.{p.key}" for p in group.producers)
    members = sorted(f"{m.weight}.{m.axis}.{m.role}" for m in group.members)
    return (*makers, *members)


def names_of(group: Group) -> list[str]:
    """What a filter may call a group: its name, or a layer that makes it."""
    return [group.name, *group.layers]


def check_filters(found: Units, option: str, filters: Sequence[Filter]) -> None:
    """Raise for a filter that is about no group, saying why where that is known.

    Raises:
        FilterError: Naming the filter, and what there is.
    """
    for entry in filters:
        if any(matches(entry, group, names_of(group)) for group in found.groups):
            continue
        frozen = [] if callable(entry) else [f for f in found.frozen if f.layer == entry]
        if frozen:
            raise FilterError(
                f"{option}: {entry!r} cannot be cut: {frozen[0].reason}. "
                "See tfprune.units(model) for what can"
            )
        known = [group.name for group in found.groups]
        what = "the predicate" if callable(entry) else repr(entry)
        raise FilterError(
            f"{option}: {what} matches nothing that can be cut. {nearest(str(entry), known)}"
        )


def bundle(group: Group, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sets of units that go together, from the least to the most important.

    Where blocks must keep equal counts, the r-th least important of each block go together.
    Among equals the lower index stays.
    """
    rows, sums = [], []
    for block in range(group.block_count):
        mine = np.flatnonzero(group.blocks == block)
        order = mine[np.lexsort((-mine, scores[mine]))]
        rows.append(group.units[order])
        sums.append(scores[order])
    return np.stack(rows, axis=1), np.sum(sums, axis=0)
