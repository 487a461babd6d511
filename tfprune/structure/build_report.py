"""The report on a model that was shrunk: what it was and what it is, counted."""

import math
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfprune.structure.depth.remove_branches import Branches
from tfprune.structure.groups.units import Units
from tfprune.structure.plan import plan_of
from tfprune.structure.rebuild.rebuild import operations
from tfprune.structure.report import BlockChange, Cost, GroupChange, LayerChange, ShrinkReport
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.ranking import Choice


def make_report(
    found: Units,
    left: Units,
    small: Any,
    ops: dict[int, Any],
    choice: Choice,
    branches: Branches,
    error: float | None,
    *,
    meter_left: Meter,
    target: dict[str, float] | str | None,
    importance: str | None,
    ranking: str | None,
    round_to: int,
    against: str,
) -> ShrinkReport:
    """The report on a model that was shrunk.

    Args:
        found: The units of the original.
        left: Those of what is left of it when whole branches are taken out.
        small: The small model.
        ops: Its operations by the `id` of the original.
        choice: The units of `left` that went.
        branches: The branches that went.
        error: How far the small model is from what it should be.
        meter_left: Counts the costs of `left`.
        target: What was asked for.
        importance: As it was given; None where nothing was judged.
        ranking: As it was given; None where nothing was ranked.
        round_to: As it was given.
        against: What `error` was measured against.
    """
    alive = left.alive(choice.removed)
    meter = meter_left if left is found else Meter(found)
    reasons = [
        reason for group in left.groups if not alive[group.units].all() for reason in group.reasons
    ]
    layers = tuple(
        LayerChange(op.name, op.count_params(), ops[id(op)].count_params() if id(op) in ops else 0)
        for op in operations(found.graph)
        if isinstance(op, keras.Layer) and op.weights
    )
    before = _cost(meter, meter.everything)
    after = replace(_cost(meter_left, alive), params=small.count_params())
    return ShrinkReport(
        model=found.model.name,
        target=target,
        importance=importance,
        ranking=ranking,
        round_to=round_to,
        before=before,
        after=after,
        achieved=_achieved(target, found, branches, meter, meter_left, alive),
        groups=_groups(found, left, alive),
        layers=layers,
        exact=not reasons,
        reasons=tuple(dict.fromkeys(reasons)),
        error=error,
        against=against,
        frozen=tuple((line.layer, line.reason) for line in found.frozen),
        notes=(*found.graph.notes, *_masks_left(found), *branches.notes, *choice.notes),
        plan=plan_of(left, choice.removed, branches.planned(found)),
        blocks=tuple(
            BlockChange(block.name, block.layers, block.arm in branches.arms, block.reason)
            for block in found.blocks
        ),
    )


def _groups(found: Units, left: Units, alive: np.ndarray) -> tuple[GroupChange, ...]:
    """The groups of the original, each with what is left of it."""
    homes = {(id(p.op), p.key): group for group in left.groups for p in group.producers}
    changes = []
    for group in found.groups:
        kept = [homes[key] for p in group.producers if (key := (id(p.op), p.key)) in homes]
        after = int(alive[kept[0].units].sum()) if kept else 0
        changes.append(GroupChange(group.name, group.kind, len(group.units), after, group.exact))
    return tuple(changes)


def _achieved(
    target: dict[str, float] | str | None,
    found: Units,
    branches: Branches,
    meter: Meter,
    meter_left: Meter,
    alive: np.ndarray,
) -> float | None:
    """What the target asked a share of, as a share."""
    if not isinstance(target, dict):
        return None
    ((kind, _),) = target.items()
    if kind == "blocks":
        return len(branches.arms) / sum(block.removable for block in found.blocks)
    if kind not in ("macs", "params", "channels"):
        return None
    return meter_left.measure(kind, alive) / meter.measure(kind, meter.everything)


def _masks_left(found: Units) -> list[str]:
    count = sum(
        getattr(getattr(weight, "constraint", None), "is_pruning_mask", False)
        for weight in found.model.weights
    )
    if not count:
        return []
    return [
        f"the masks that hold zeros in {count} weights stay with the original: the small model "
        "keeps its zeros only until it is trained, unless it is pruned again"
    ]


def _cost(meter: Meter, alive: np.ndarray) -> Cost:
    macs = meter.macs(alive)
    return Cost(
        int(meter.params(alive)),
        None if math.isnan(macs) else round(macs),
        int(meter.channels(alive)),
    )
