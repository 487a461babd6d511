"""A cost that may stay: parameters, multiplications, channels, or bytes of the file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tfprune.errors import FilterError, ModelError, OptionError
from tfprune.structure.groups.units import Units, vectors
from tfprune.structure.ids.ids import HEADS
from tfprune.structure.rebuild.cut import NOTHING, Cut, uncut
from tfprune.structure.select.cost_meter import Meter, nearest_multiple
from tfprune.structure.select.importance import Evidence, judge
from tfprune.structure.select.memory_traffic import intensities
from tfprune.structure.select.ranking import (
    AGAINST,
    RANKINGS,
    Candidate,
    Choice,
    bundle,
    check_filters,
    fast,
    names_of,
)
from tfprune.structure.select.target import OutOfReach, Target, per_cent
from tfprune.structure.select.tflite_size import meet_file_size
from tfprune.structure.targets.asked import TARGETS, Asked
from tfprune.utils.filters import as_filters, matches
from tfprune.utils.filters import choose as select

CLEARLY = 0.05
"""How far the share of channels that stay may be from what was asked without a note."""


@TARGETS.register("cost")
def cut_to_cost(found: Units, asked: Asked) -> Cut:
    """The least important units go until the cost is met, or as many as ratios say.

    Raises:
        FilterError: A pattern matches nothing.
        ModelError: Nothing of the model can be cut.
        OptionError: The target cannot be met.
    """
    cut, meter = uncut(found), Meter(found)
    evidence = Evidence(found, cut.weights, asked.data, asked.loss, asked.seed)
    pick = partial(_choose, meter, judge(asked.importance, evidence), asked)
    if asked.cost is not None and asked.cost.cost == "tflite_bytes":
        choice = meet_file_size(cut, meter, asked.cost, pick)
    else:
        choice = pick(asked.cost)
    return replace(cut, removed=choice.removed, notes=choice.notes)


def _choose(meter: Meter, score: np.ndarray, asked: Asked, target: Target | None) -> Choice:
    """The least important units whose removal meets a target, or as many as ratios say."""
    found = meter.found
    if target is not None and not found.groups:
        why = dict.fromkeys(f"{line.layer}: {line.reason}" for line in found.frozen)
        raise ModelError(
            f"model {found.model.name!r} has no unit that could be removed "
            f"({'; '.join(list(why)[:3])})"
        )
    pool = _Pool(found, score, asked)
    if target is None:
        return Choice(pool.removed(0.0), tuple(pool.notes))
    now = meter.measure(target.cost, meter.everything)
    if not target.is_share and now <= target.limit(now):
        pool.notes.append(f"the model is within its target of {target} as it is")
    meet = _meet_channels if target.cost == "channels" else _meet
    return Choice(meet(pool, meter, target, now), tuple(pool.notes))


class _Pool:
    """The groups that may be cut, and which of their units go when a share of all does."""

    def __init__(self, found: Units, score: np.ndarray, asked: Asked) -> None:
        self.asked, self.rank = asked, RANKINGS[asked.ranking]
        pool, self.notes = candidates(found, score, asked)
        if self.rank is fast:
            seen = intensities(found)
            pool = [replace(one, intensity=float(seen[one.group.index])) for one in pool]
        kept = _fixed(found, pool, asked.ratios or {}, self.notes)
        fixed = [c.removed(kept[c.group.index]) for c in pool if c.group.index in kept]
        self.fixed = np.concatenate([NOTHING, *fixed])
        self.free = [candidate for candidate in pool if candidate.group.index not in kept]
        self.candidates = pool
        self.tensors = [np.unique(found.root[ids]) for ids in vectors(found) if ids.size]
        # Where a unit stands: its candidate, and its bundle there.
        self.home = np.zeros((2, found.flow.size), int)
        for number, candidate in enumerate(pool):
            self.home[0, candidate.bundles] = number
            self.home[1, candidate.bundles] = np.arange(len(candidate.bundles))[:, None]

    def removed(self, share: float) -> np.ndarray:
        """The roots that go."""
        asked = self.rank(self.free, share)
        gone = [c.removed(c.kept(count)) for c, count in zip(self.free, asked, strict=True)]
        return self._without_empty(np.concatenate([self.fixed, *gone]))

    def _without_empty(self, removed: np.ndarray) -> np.ndarray:
        """The same roots, but one of each axis of a tensor or weight that they would empty."""
        gone = np.zeros(self.home.shape[1], bool)
        gone[removed] = True
        for line in self.tensors:
            if gone[line].all():
                rows = [(self.candidates[number], row) for number, row in self.home[:, line].T]
                candidate, row = max(rows, key=lambda at: (at[0].scores[at[1]], at[1]))
                gone[candidate.bundles[row]] = False
        return np.flatnonzero(gone)

    def __str__(self) -> str:
        asked = self.asked
        options = f"cap={asked.cap:g}, round_to={asked.round_to} and {len(self.free)} groups that "
        options += "may be cut"
        return options + (f" ({'; '.join(self.notes[:3])})" if self.notes else "")


def _meet_channels(pool: _Pool, meter: Meter, target: Target, now: float) -> np.ndarray:
    """The roots that go for a share of the channels, which is the share that is asked of all."""
    limit = target.limit(now)
    share = max(0.0, 1 - limit / now) if now else 0.0
    gone = pool.removed(share)
    if now - limit >= 1 and not len(gone):
        raise OptionError(
            f"shrink target {target}: none of {now:,.0f} goes with {pool}. "
            "Lower round_to, raise cap, or let more groups be cut"
        )
    units = np.concatenate([NOTHING, *(c.bundles.ravel() for c in pool.free)])
    stay = 1 - float(np.isin(units, gone).mean()) if len(units) else 1 - share
    if abs(stay - (1 - share)) > CLEARLY:
        pool.notes.append(
            f"{stay:.2f} of the channels that may be cut stay, where {1 - share:.2g} were "
            f"asked for: no nearer with {pool}"
        )
    return gone


def _meet(pool: _Pool, meter: Meter, target: Target, now: float) -> np.ndarray:
    """The roots that go so that the cost is just met, found by halving."""
    limit = target.limit(now)

    def cost(share: float) -> float:
        return meter.measure(target.cost, meter.found.alive(pool.removed(share)))

    if cost(0.0) <= limit:
        return pool.removed(0.0)
    least = cost(1.0)
    if least > limit:
        hint = "" if target.is_share else per_cent(target.value)
        raise OutOfReach(
            f"shrink target {target}: at least {least:,.0f} of {now:,.0f} ({least / now:.1%}) stay "
            f"with {pool}; asked for {limit:,.0f}. {hint or AGAINST}",
            least,
        )
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= limit else (middle, high)
    return pool.removed(high)


def candidates(found: Units, score: np.ndarray, asked: Asked) -> tuple[list[Candidate], list[str]]:
    """The groups that may be cut, and notes on those that stay though they were not skipped."""
    check_filters(found, "only", asked.only)
    check_filters(found, "skip", asked.skip)
    chosen: list[Candidate] = []
    notes: list[str] = []
    wanted = select(found.groups, names_of, asked.only, asked.skip)
    for group in [group for group, take in zip(found.groups, wanted, strict=True) if take]:
        if group.kind == HEADS and not asked.heads:
            continue
        mine = score[group.units]
        if np.isnan(mine).any():
            notes.append(f"{group.name} stays whole: the importance has nothing to judge it by")
            continue
        bundles, scores = bundle(group, mine)
        round_to = asked.round_to
        step = 1 if group.kind == HEADS else round_to // math.gcd(round_to, group.block_count)
        most = math.floor(asked.cap * len(bundles) + 1e-9)
        chosen.append(Candidate(group, bundles, scores, step, most))
    return chosen, notes


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
