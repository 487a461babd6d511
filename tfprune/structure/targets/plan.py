"""The target of a plan that is applied again."""

from dataclasses import replace

from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, branches_of, uncut
from tfprune.structure.select.plan import Plan, blocks_of, removed_by
from tfprune.structure.targets.options import TARGETS, ShrinkOptions


@TARGETS.register("plan")
def cut_by_plan(found: Units, options: ShrinkOptions) -> Cut:
    """Remove the blocks and units that a plan names."""
    plan = options.target
    assert isinstance(plan, Plan)
    cut = uncut(found).without(branches_of(blocks_of(found, plan)), options.input_shape)
    return replace(cut, removed=removed_by(cut.left, plan))
