"""The target of a cost: parameters, multiplications, channels, or bytes of the file."""

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
from tfprune.structure.select.importance import UnitEvidence, score_units
from tfprune.structure.select.memory_traffic import intensities
from tfprune.structure.select.ranking import (
    AGAINST,
    RANKINGS,
    RankedGroup,
    Selection,
    bundle,
    check_filters,
    fast,
    names_of,
)
from tfprune.structure.select.target import OutOfReach, Target, per_cent
from tfprune.structure.select.tflite_size import meet_file_size
from tfprune.structure.targets.options import TARGETS, ShrinkOptions
from tfprune.utils.filters import as_filters, matches
from tfprune.utils.filters import choose as select

CLEARLY = 0.05
"""A kept share of channels that differs from the target by more than this gets a note."""


@TARGETS.register("cost")
def cut_to_cost(found: Units, options: ShrinkOptions) -> Cut:
    """Remove the least important units until the cost is met, or as many as `ratios` say.

    Raises:
        FilterError: A pattern matches nothing.
        ModelError: The model has no prunable units.
        OptionError: The target cannot be met.
    """
    cut, meter = uncut(found), Meter(found)
    evidence = UnitEvidence(found, cut.weights, options.data, options.loss, options.seed)
    pick = partial(_choose, meter, score_units(options.importance, evidence), options)
    if options.cost is not None and options.cost.cost == "tflite_bytes":
        choice = meet_file_size(cut, meter, options.cost, pick)
    else:
        choice = pick(options.cost)
    return replace(cut, removed=choice.removed, notes=choice.notes)


def _choose(
    meter: Meter, score: np.ndarray, options: ShrinkOptions, target: Target | None
) -> Selection:
    """Return the least important units that meet a target, or as many as `ratios` say."""
    found = meter.found
    if target is not None and not found.groups:
        why = dict.fromkeys(f"{line.layer}: {line.reason}" for line in found.frozen)
        raise ModelError(
            f"model {found.model.name!r} has no prunable units ({'; '.join(list(why)[:3])})"
        )
    pool = _Pool(found, score, options)
    if target is None:
        return Selection(pool.removed(0.0), tuple(pool.notes))
    now = meter.measure(target.cost, meter.everything)
    if not now:
        raise ModelError(
            f"shrink target {target}: model {found.model.name!r} has none to remove; use another "
            "cost: params, channels or tflite_bytes"
        )
    if not target.is_share and now <= target.limit(now):
        pool.notes.append(f"the model already meets its target of {target}")
    meet = _meet_channels if target.cost == "channels" else _meet
    return Selection(meet(pool, meter, target, now), tuple(pool.notes))


class _Pool:
    """The prunable groups, and which of their units are removed for a share of all."""

    def __init__(self, found: Units, score: np.ndarray, options: ShrinkOptions) -> None:
        self.options, self.rank = options, RANKINGS[options.ranking]
        pool, self.notes = candidates(found, score, options)
        if self.rank is fast:
            seen = intensities(found)
            pool = [replace(one, intensity=float(seen[one.group.index])) for one in pool]
        kept = _fixed(found, pool, options.ratios or {}, self.notes)
        fixed = [c.removed(kept[c.group.index]) for c in pool if c.group.index in kept]
        self.fixed = np.concatenate([NOTHING, *fixed])
        self.free = [candidate for candidate in pool if candidate.group.index not in kept]
        self.candidates = pool
        self.tensors = [np.unique(found.root[ids]) for ids in vectors(found) if ids.size]
        # The candidate of each unit, and its bundle there.
        self.home = np.zeros((2, found.flow.size), int)
        for number, candidate in enumerate(pool):
            self.home[0, candidate.bundles] = number
            self.home[1, candidate.bundles] = np.arange(len(candidate.bundles))[:, None]

    def removed(self, share: float) -> np.ndarray:
        """Return the roots to remove."""
        counts = self.rank(self.free, share)
        removed = [c.removed(c.kept(count)) for c, count in zip(self.free, counts, strict=True)]
        return self._without_empty(np.concatenate([self.fixed, *removed]))

    def _without_empty(self, removed: np.ndarray) -> np.ndarray:
        """Return the roots without one of each axis that would lose all its units."""
        is_removed = np.zeros(self.home.shape[1], bool)
        is_removed[removed] = True
        for line in self.tensors:
            if is_removed[line].all():
                rows = [(self.candidates[number], row) for number, row in self.home[:, line].T]
                candidate, row = max(rows, key=lambda at: (at[0].scores[at[1]], at[1]))
                is_removed[candidate.bundles[row]] = False
        return np.flatnonzero(is_removed)

    def __str__(self) -> str:
        options = self.options
        groups = f"{len(self.free)} prunable groups"
        groups += f": {'; '.join(self.notes[:3])}" if self.notes else ""
        return f"cap={options.cap:g}, round_to={options.round_to} ({groups})"


def _meet_channels(pool: _Pool, meter: Meter, target: Target, now: float) -> np.ndarray:
    """Return the roots to remove for a share of the channels."""
    limit = target.limit(now)
    share = max(0.0, 1 - limit / now) if now else 0.0
    removed = pool.removed(share)
    if now - limit >= 1 and not len(removed):
        raise OptionError(
            f"shrink target {target}: none of {now:,.0f} channels can be removed with {pool}. "
            "Lower round_to, raise cap, or allow more groups"
        )
    units = np.concatenate([NOTHING, *(c.bundles.ravel() for c in pool.free)])
    kept = 1 - float(np.isin(units, removed).mean()) if len(units) else 1 - share
    if abs(kept - (1 - share)) > CLEARLY:
        pool.notes.append(
            f"{kept:.2f} of the prunable channels kept for a target of {1 - share:.2g}: no "
            f"nearer with {pool}"
        )
    return removed


def _meet(pool: _Pool, meter: Meter, target: Target, now: float) -> np.ndarray:
    """Return the fewest roots to remove that meet the cost, found by bisection."""
    limit = target.limit(now)

    def cost(share: float) -> float:
        return meter.measure(target.cost, meter.found.kept_mask(pool.removed(share)))

    if cost(0.0) <= limit:
        return pool.removed(0.0)
    least = cost(1.0)
    if least > limit:
        hint = "" if target.is_share else per_cent(target.value)
        raise OutOfReach(
            f"shrink target {target}: at most {limit:,.0f} wanted, but at least {least:,.0f} of "
            f"{now:,.0f} ({least / now:.1%}) are kept with {pool}. {hint or AGAINST}",
            least,
        )
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= limit else (middle, high)
    return pool.removed(high)


def candidates(
    found: Units, score: np.ndarray, options: ShrinkOptions
) -> tuple[list[RankedGroup], list[str]]:
    """Return the groups to cut, and notes on those kept whole without being skipped."""
    check_filters(found, "only", options.only)
    check_filters(found, "skip", options.skip)
    chosen: list[RankedGroup] = []
    notes: list[str] = []
    wanted = select(found.groups, names_of, options.only, options.skip)
    for group in [group for group, take in zip(found.groups, wanted, strict=True) if take]:
        if group.kind == HEADS and not options.heads:
            continue
        mine = score[group.units]
        if np.isnan(mine).any():
            notes.append(f"{group.name} kept whole: the importance is not defined for it")
            continue
        bundles, scores = bundle(group, mine)
        round_to = options.round_to
        step = 1 if group.kind == HEADS else round_to // math.gcd(round_to, group.block_count)
        most = math.floor(options.cap * len(bundles) + 1e-9)
        chosen.append(RankedGroup(group, bundles, scores, step, most))
    return chosen, notes


def _fixed(
    found: Units, pool: Sequence[RankedGroup], ratios: Mapping[str, float], notes: list[str]
) -> dict[int, int]:
    """Return how many bundles to keep in each group that `ratios` names."""
    check_filters(found, "ratios", as_filters("ratios", tuple(ratios)))
    kept: dict[int, int] = {}
    for pattern, share in ratios.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise OptionError(
                f"shrink ratios {pattern!r}: expected the share to keep, in (0, 1]. "
                f"Received {share!r}"
            )
        meant = [c for c in pool if matches(pattern, c.group, names_of(c.group))]
        if not meant:
            raise FilterError(
                f"ratios: {pattern!r} is kept whole by only=, skip=, heads=False or an importance "
                "that is not defined for it. Remove the name from one of them"
            )
        for candidate in meant:
            count = len(candidate.bundles)
            left = nearest_multiple(share * count, candidate.step, count)
            kept[candidate.group.index] = left
            if abs(left / count - share) > CLEARLY:
                notes.append(
                    f"{candidate.group.name}: {left} of {count} kept for a share of {share:g}: "
                    f"counts are multiples of {candidate.step}"
                )
    return kept
