"""Which units go: groups are ranked, rounded and capped until the cost is met."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tfprune.errors import FilterError, ModelError, OptionError, nearest
from tfprune.structure.groups.grouping import Group
from tfprune.structure.groups.units import Units, vectors
from tfprune.structure.ids.ids import HEADS
from tfprune.structure.select.cost_meter import Meter, nearest_multiple
from tfprune.structure.select.memory_traffic import intensities
from tfprune.structure.select.target import OutOfReach, Target, per_cent
from tfprune.utils.filters import Filter, as_filters, matches
from tfprune.utils.filters import choose as select
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

CLEARLY = 0.05
"""How far the share of channels that stay may be from what was asked without a note."""

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


def candidates(
    found: Units,
    score: np.ndarray,
    *,
    round_to: int,
    cap: float,
    only: Sequence[Filter],
    skip: Sequence[Filter],
    heads: bool,
) -> tuple[list[Candidate], list[str]]:
    """The groups that may be cut, and notes on those that stay though they were not skipped."""
    only, skip = as_filters("only", only), as_filters("skip", skip)
    check_filters(found, "only", only)
    check_filters(found, "skip", skip)
    chosen: list[Candidate] = []
    notes: list[str] = []
    wanted = select(found.groups, names_of, only, skip)
    for group in [group for group, take in zip(found.groups, wanted, strict=True) if take]:
        if group.kind == HEADS and not heads:
            continue
        mine = score[group.units]
        if np.isnan(mine).any():
            notes.append(f"{group.name} stays whole: the importance has nothing to judge it by")
            continue
        bundles, scores = bundle(group, mine)
        step = 1 if group.kind == HEADS else round_to // math.gcd(round_to, group.block_count)
        most = math.floor(cap * len(bundles) + 1e-9)
        chosen.append(Candidate(group, bundles, scores, step, most))
    return chosen, notes


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


def choose(
    found: Units,
    meter: Meter,
    score: np.ndarray,
    target: Target | None,
    *,
    ranking: str,
    round_to: int,
    cap: float,
    only: Sequence[Filter] = (),
    skip: Sequence[Filter] = (),
    ratios: Mapping[str, float] | None = None,
    heads: bool = True,
) -> Choice:
    """The least important units whose removal meets the target.

    Args:
        found: The units.
        meter: Counts the costs.
        score: The importance of every id's root.
        target: What must be met; None if only `ratios` are to be applied.
        ranking: How the total is shared out.
        round_to: Counts of channels are multiples of this.
        cap: The largest share of a group that may go.
        only: Names, regular expressions or predicates of groups: nothing else is cut.
        skip: Those that stay.
        ratios: The share that stays, by pattern of names, instead of what the ranking says.
        heads: Whether attention heads may go.

    Raises:
        FilterError: A pattern matches nothing.
        ModelError: Nothing of the model can be cut.
        OptionError: The target cannot be met.
    """
    rank = RANKINGS[ranking]
    if target is not None and not found.groups:
        why = dict.fromkeys(f"{line.layer}: {line.reason}" for line in found.frozen)
        raise ModelError(
            f"model {found.model.name!r} has no unit that could be removed "
            f"({'; '.join(list(why)[:3])})"
        )
    pool, notes = candidates(
        found, score, round_to=round_to, cap=cap, only=only, skip=skip, heads=heads
    )
    if rank is fast:
        seen = intensities(found)
        pool = [replace(one, intensity=float(seen[one.group.index])) for one in pool]
    fixed = _fixed(found, pool, ratios or {}, notes)
    free = [candidate for candidate in pool if candidate.group.index not in fixed]
    tensors = _Tensors(found, pool)

    def removed_at(share: float) -> np.ndarray:
        gone = [c.removed(fixed[c.group.index]) for c in pool if c.group.index in fixed]
        for candidate, asked in zip(free, rank(free, share), strict=True):
            gone.append(candidate.removed(candidate.kept(asked)))
        return tensors.without_empty(np.concatenate([np.zeros(0, int), *gone]))

    if target is None:
        return Choice(removed_at(0.0), tuple(notes))
    now = meter.measure(target.cost, meter.everything)
    limit = target.limit(now)
    if not target.is_share and now <= limit:
        notes.append(f"the model is within its target of {target} as it is")
    options = f"cap={cap:g}, round_to={round_to} and {len(free)} groups that may be cut"
    options += f" ({'; '.join(notes[:3])})" if notes else ""
    if target.cost == "channels":
        share = max(0.0, 1 - limit / now) if now else 0.0
        gone = removed_at(share)
        if now - limit >= 1 and not len(gone):
            raise OptionError(
                f"shrink target {target}: none of {now:,.0f} goes with {options}. "
                "Lower round_to, raise cap, or let more groups be cut"
            )
        units = np.concatenate([np.zeros(0, int), *(c.bundles.ravel() for c in free)])
        stay = 1 - float(np.isin(units, gone).mean()) if len(units) else 1 - share
        if abs(stay - (1 - share)) > CLEARLY:
            notes.append(
                f"{stay:.2f} of the channels that may be cut stay, where {1 - share:.2g} were "
                f"asked for: no nearer with {options}"
            )
        return Choice(gone, tuple(notes))

    def cost(share: float) -> float:
        return meter.measure(target.cost, found.alive(removed_at(share)))

    if cost(0.0) <= limit:
        return Choice(removed_at(0.0), tuple(notes))
    least = cost(1.0)
    if least > limit:
        hint = "" if target.is_share else per_cent(target.value)
        raise OutOfReach(
            f"shrink target {target}: at least {least:,.0f} of {now:,.0f} ({least / now:.1%}) stay "
            f"with {options}; asked for {limit:,.0f}. {hint or AGAINST}",
            least,
        )
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= limit else (middle, high)
    return Choice(removed_at(high), tuple(notes))


def _fixed(
    found: Units, pool: Sequence[Candidate], ratios: Mapping[str, float], notes: list[str]
) -> dict[int, int]:
    """How many bundles stay in each group that a ratio names."""
    check_filters(found, "ratios", as_filters("ratios", tuple(ratios)))
    kept: dict[int, int] = {}
    for pattern, share in ratios.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise OptionError(
                f"shrink ratios {pattern!r}: expected the share that stays, in (0, 1]. "
                f"Received {share!r}"
            )
        meant = [c for c in pool if matches(pattern, c.group, names_of(c.group))]
        if not meant:
            raise FilterError(
                f"ratios: {pattern!r} is not cut: only=, skip=, heads=False or an importance "
                "that cannot judge it keep it whole. Leave it out of one of them"
            )
        for candidate in meant:
            count = len(candidate.bundles)
            stay = nearest_multiple(share * count, candidate.step, count)
            kept[candidate.group.index] = stay
            if abs(stay / count - share) > CLEARLY:
                notes.append(
                    f"{candidate.group.name}: {stay} of {count} stay, where a share of {share:g} "
                    f"was asked for: counts are multiples of {candidate.step}"
                )
    return kept


class _Tensors:
    """Sees to it that no axis of any tensor or weight is emptied."""

    def __init__(self, found: Units, pool: Sequence[Candidate]) -> None:
        self.found = found
        self.pool = pool
        self.lines = [np.unique(found.root[ids]) for ids in vectors(found) if ids.size]
        # Where a unit stands: its candidate, and its bundle there.
        self.home = np.zeros((2, found.flow.size), int)
        for number, candidate in enumerate(pool):
            self.home[0, candidate.bundles] = number
            self.home[1, candidate.bundles] = np.arange(len(candidate.bundles))[:, None]

    def without_empty(self, removed: np.ndarray) -> np.ndarray:
        gone = np.zeros(self.found.flow.size, bool)
        gone[removed] = True
        for line in self.lines:
            if gone[line].all():
                rows = [(self.pool[number], row) for number, row in self.home[:, line].T]
                candidate, row = max(rows, key=lambda at: (at[0].scores[at[1]], at[1]))
                gone[candidate.bundles[row]] = False
        return np.flatnonzero(gone)
