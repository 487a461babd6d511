"""What training has closed."""

from dataclasses import replace

from tfprune.structure.depth.closed_branches import dead_branches
from tfprune.structure.gates.closed_units import closed_units
from tfprune.structure.gates.fold_gates import check_gates, fold_gates, note_if_open
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, uncut
from tfprune.structure.targets.asked import TARGETS, Asked


@TARGETS.register("closed")
def cut_closed(found: Units, asked: Asked) -> Cut:
    """Branches that add nothing go, and units whose weights are all zero, or whose gate is."""
    gates, shape = asked.target == "gates", asked.input_shape
    if gates:
        check_gates(found)
    cut = uncut(found)
    cut = cut.without(dead_branches(found, cut.weights), shape)
    cut = replace(closed_units(cut, gates=gates, input_shape=shape), same=True)
    if gates:
        return fold_gates(replace(cut, notes=(*cut.notes, *note_if_open(found))))
    if len(cut.removed) or cut.notes or cut.branches.arms:
        return cut
    note = "nothing is closed: no unit has zeros alone in the weights that make or use it"
    return replace(cut, notes=(note,))
