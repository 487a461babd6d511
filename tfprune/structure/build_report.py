"""The report on a model that was shrunk: what it was and what it is, counted."""

import math
from dataclasses import replace

import keras
import numpy as np

from tfprune.structure.groups.units import Units
from tfprune.structure.proof.prove import Proof
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.rebuild import Rebuilt
from tfprune.structure.rebuild.weights import operations
from tfprune.structure.report import BlockChange, Cost, GroupChange, LayerChange, ShrinkReport
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.plan import Plan, plan_of
from tfprune.structure.targets.asked import Asked


def build_report(cut: Cut, small: Rebuilt, proof: Proof | None, asked: Asked) -> ShrinkReport:
    """The report on a model that was shrunk: on what was taken out and what was built of the rest.

    Args:
        cut: What was taken out.
        small: What was built of the rest.
        proof: How far that is from what it should be; None where nobody asked.
        asked: What was asked for.
    """
    whole, left, arms = cut.whole, cut.left, cut.branches.arms
    meter = Meter(whole)
    meter_left = meter if left is whole else Meter(left)
    changed = [group for group in left.groups if not cut.alive[group.units].all()]
    reasons = tuple(dict.fromkeys(reason for group in changed for reason in group.reasons))
    name = getattr(asked.importance, "__name__", "custom")
    importance = asked.importance if isinstance(asked.importance, str) else name
    silenced = "units and branches" if arms else "units"
    return ShrinkReport(
        model=whole.model.name,
        target=_target(asked),
        importance=importance if asked.kind in ("blocks", "cost") else None,
        ranking=asked.ranking if asked.kind == "cost" else None,
        round_to=asked.round_to,
        before=_cost(meter, meter.everything),
        after=replace(_cost(meter_left, cut.alive), params=small.model.count_params()),
        achieved=_achieved(cut, asked, meter, meter_left),
        groups=_groups(cut),
        layers=_layers(cut, small),
        exact=not reasons,
        reasons=reasons,
        error=None if proof is None else proof.error,
        against="the original" + ("" if cut.same else f" with the removed {silenced} silenced"),
        frozen=tuple((line.layer, line.reason) for line in whole.frozen),
        notes=(*whole.graph.notes, *_masks_left(whole), *cut.branches.notes, *cut.notes),
        plan=plan_of(cut),
        blocks=tuple(
            BlockChange(block.name, block.layers, block.arm in arms, block.reason)
            for block in whole.blocks
        ),
    )


def _target(asked: Asked) -> dict[str, float] | str | None:
    """What was asked for, as the report shows it."""
    if asked.cost is not None:
        return {asked.cost.cost: asked.cost.value}
    return "plan" if isinstance(asked.target, Plan) else asked.target


def _cost(meter: Meter, alive: np.ndarray) -> Cost:
    macs = meter.macs(alive)
    return Cost(
        int(meter.params(alive)),
        None if math.isnan(macs) else round(macs),
        int(meter.channels(alive)),
    )


def _achieved(cut: Cut, asked: Asked, meter: Meter, meter_left: Meter) -> float | None:
    """What the target asked a share of, as a share."""
    kind = None if asked.cost is None else asked.cost.cost
    if kind == "blocks":
        return len(cut.branches.arms) / sum(block.removable for block in cut.whole.blocks)
    if kind not in ("macs", "params", "channels"):
        return None
    return meter_left.measure(kind, cut.alive) / meter.measure(kind, meter.everything)


def _groups(cut: Cut) -> tuple[GroupChange, ...]:
    """The groups of the original, each with what is left of it."""
    homes = {(id(p.op), p.key): group for group in cut.left.groups for p in group.producers}
    changes = []
    for group in cut.whole.groups:
        kept = [homes[key] for p in group.producers if (key := (id(p.op), p.key)) in homes]
        after = int(cut.alive[kept[0].units].sum()) if kept else 0
        changes.append(GroupChange(group.name, group.kind, len(group.units), after, group.exact))
    return tuple(changes)


def _layers(cut: Cut, small: Rebuilt) -> tuple[LayerChange, ...]:
    ops = small.ops
    return tuple(
        LayerChange(op.name, op.count_params(), ops[id(op)].count_params() if id(op) in ops else 0)
        for op in operations(cut.whole.graph)
        if isinstance(op, keras.Layer) and op.weights
    )


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
