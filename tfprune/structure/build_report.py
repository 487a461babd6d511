"""Building the report of `shrink`."""

import math
from dataclasses import replace

import keras
import numpy as np

from tfprune.graph.rebuild import Rebuilt, operations
from tfprune.structure.groups.units import Units
from tfprune.structure.proof.prove import Proof
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.report import BlockChange, Cost, GroupChange, LayerChange, ShrinkReport
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.plan import Plan, plan_of
from tfprune.structure.targets.options import ShrinkOptions


def build_report(
    cut: Cut, small: Rebuilt, proof: Proof | None, options: ShrinkOptions
) -> ShrinkReport:
    """Return the report on a shrunk model.

    Args:
        cut: What was removed.
        small: The smaller model.
        proof: The result of the verification; None if it was skipped.
        options: The options of `shrink`.
    """
    whole, left, arms = cut.whole, cut.left, cut.branches.arms
    meter = Meter(whole)
    meter_left = meter if left is whole else Meter(left)
    changed = [group for group in left.groups if not cut.kept_mask[group.units].all()]
    reasons = tuple(dict.fromkeys(reason for group in changed for reason in group.reasons))
    name = getattr(options.importance, "__name__", "custom")
    importance = options.importance if isinstance(options.importance, str) else name
    zeroed = "units and branches" if arms else "units"
    return ShrinkReport(
        model=whole.model.name,
        target=_target(options),
        importance=importance if options.kind in ("blocks", "cost") else None,
        ranking=options.ranking if options.kind == "cost" else None,
        round_to=options.round_to,
        before=_cost(meter, meter.everything),
        after=replace(_cost(meter_left, cut.kept_mask), params=small.model.count_params()),
        achieved=_achieved(cut, options, meter, meter_left),
        groups=_groups(cut),
        layers=_layers(cut, small),
        exact=not reasons,
        reasons=reasons,
        error=None if proof is None else proof.error,
        against="the original" + ("" if cut.same else f" with the removed {zeroed} zeroed"),
        frozen=tuple((line.layer, line.reason) for line in whole.frozen),
        notes=(*whole.graph.notes, *_masks_left(whole), *cut.branches.notes, *cut.notes),
        plan=plan_of(cut),
        blocks=tuple(
            BlockChange(block.name, block.layers, block.arm in arms, block.reason)
            for block in whole.blocks
        ),
    )


def _target(options: ShrinkOptions) -> dict[str, float] | str | None:
    """Return the target as the report shows it."""
    if options.cost is not None:
        return {options.cost.cost: options.cost.value}
    return "plan" if isinstance(options.target, Plan) else options.target


def _cost(meter: Meter, kept_mask: np.ndarray) -> Cost:
    macs = meter.macs(kept_mask)
    return Cost(
        int(meter.params(kept_mask)),
        None if math.isnan(macs) else round(macs),
        int(meter.channels(kept_mask)),
    )


def _achieved(cut: Cut, options: ShrinkOptions, meter: Meter, meter_left: Meter) -> float | None:
    """Return the share that was achieved of the cost in the target, or None."""
    kind = None if options.cost is None else options.cost.cost
    if kind == "blocks":
        return len(cut.branches.arms) / sum(block.removable for block in cut.whole.blocks)
    if kind not in ("macs", "params", "channels"):
        return None
    return meter_left.measure(kind, cut.kept_mask) / meter.measure(kind, meter.everything)


def _groups(cut: Cut) -> tuple[GroupChange, ...]:
    """Return the groups of the original with the number of units before and after."""
    homes = {(id(p.op), p.key): group for group in cut.left.groups for p in group.producers}
    changes = []
    for group in cut.whole.groups:
        kept = [homes[key] for p in group.producers if (key := (id(p.op), p.key)) in homes]
        after = int(cut.kept_mask[kept[0].units].sum()) if kept else 0
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
        f"the pruning masks of {count} weights are not copied to the small model: its zeros do "
        "not survive training unless it is pruned again"
    ]
