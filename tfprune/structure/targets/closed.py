"""The targets that remove closed units and branches."""

from dataclasses import replace

from tfprune.structure.depth.closed_branches import closed_branches
from tfprune.structure.gates.closed_units import closed_units
from tfprune.structure.gates.fold_gates import check_gates, fold_gates, note_if_open
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, uncut
from tfprune.structure.targets.options import TARGETS, ShrinkOptions


@TARGETS.register("closed")
def cut_closed(found: Units, options: ShrinkOptions) -> Cut:
    """Remove closed branches, and the units whose weights are all zero or whose gate is."""
    gates, shape = options.target == "gates", options.input_shape
    if gates:
        check_gates(found)
    cut = uncut(found)
    cut = cut.without(closed_branches(found, cut.weights), shape)
    cut = replace(closed_units(cut, gates=gates, input_shape=shape), same=True)
    if gates:
        return fold_gates(replace(cut, notes=(*cut.notes, *note_if_open(found))))
    if len(cut.removed) or cut.notes or cut.branches.arms:
        return cut
    note = "no unit is closed: none has only zeros in the weights that make or use it"
    return replace(cut, notes=(note,))
