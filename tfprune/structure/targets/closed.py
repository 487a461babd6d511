"""What training has closed."""

from tfprune.structure.depth.closed_branches import dead_branches
from tfprune.structure.gates.remove_closed import check_gates, remove_closed
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, uncut
from tfprune.structure.targets.asked import TARGETS, Asked


@TARGETS.register("closed")
def cut_closed(found: Units, asked: Asked) -> Cut:
    """Branches that add nothing go, and units whose weights are all zero, or whose gate is."""
    gates = asked.target == "gates"
    if gates:
        check_gates(found)
    cut = uncut(found)
    cut = cut.without(dead_branches(found, cut.weights), asked.input_shape)
    return remove_closed(cut, gates=gates, input_shape=asked.input_shape)
