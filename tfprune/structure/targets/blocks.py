"""A share of the residual blocks."""

from tfprune.structure.depth.choose_blocks import choose_blocks
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, uncut
from tfprune.structure.select.importance import Evidence
from tfprune.structure.targets.asked import TARGETS, Asked


@TARGETS.register("blocks")
def cut_blocks(found: Units, asked: Asked) -> Cut:
    """The least important residual blocks go whole."""
    assert asked.cost is not None
    cut = uncut(found)
    evidence = Evidence(found, cut.weights, asked.data, asked.loss, asked.seed)
    share = asked.cost.value
    branches = choose_blocks(found, evidence, asked.importance, share, asked.only, asked.skip)
    return cut.without(branches, asked.input_shape)
