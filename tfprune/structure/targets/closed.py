"""The targets that remove closed units, and residual branches whose output is constant."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tfprune.graph.graph import Call, Graph
from tfprune.graph.rebuild import Weights
from tfprune.graph.residual_blocks import Arm, ResidualBlock, addends, is_removable, keeps_shape
from tfprune.structure.depth.constants import find_constants, is_zero
from tfprune.structure.gates.closed_units import closed_units
from tfprune.structure.gates.fold_gates import check_gates, fold_gates, note_if_open
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Branches, Cut, uncut
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


def closed_branches(found: Units, weights: Weights) -> Branches:
    """Return the addends of a model that are the same for every input."""
    graph = found.graph
    constants = find_constants(graph, weights)
    blocks = {block.arm: block for block in found.blocks}
    arms: dict[Arm, np.ndarray | None] = {}
    notes: list[str] = []
    for place, call in enumerate(graph.calls):
        parts = addends(call)
        for position, ref in enumerate(parts):
            value = constants.get(ref.index)
            removed = [p for at, p in arms if at == place]
            if value is None or len(removed) == len(parts) - 1:
                continue
            name = _name(graph, blocks, (place, position))
            left = {position, *removed}
            if not is_removable(call, position) or not keeps_shape(graph, call, left):
                notes.append(f"{name} kept: its output is constant, but {call.path} would have "
                             "another shape or type without it")  # fmt: skip
            elif is_zero(value):
                arms[place, position] = None
                if (place, position) not in blocks:
                    notes.append(f"{name} removed from {call.path}: it only adds zeros")
            elif len(parts) == 2 and type(call.op).__name__ == "Add" and _storable(graph, call):
                dtype = graph.values[call.outputs[0].index].dtype
                arms[place, position] = value.astype(dtype)
                notes.append(f"{name} replaced by its constant output, which is not trained")
            else:
                notes.append(f"{name} kept: its constant output cannot be stored in {call.path}")
    return Branches(arms, tuple(notes))


def _storable(graph: Graph, call: Call) -> bool:
    """Return whether a constant of the sum's dtype can be stored in a model's config."""
    return graph.values[call.outputs[0].index].dtype in ("float32", "float16", "float64")


def _name(graph: Graph, blocks: Mapping[Arm, ResidualBlock], arm: Arm) -> str:
    if arm in blocks:
        return blocks[arm].name
    ref = addends(graph.calls[arm[0]])[arm[1]]
    maker = graph.producers().get(ref.index)
    return maker.path if maker is not None else graph.calls[arm[0]].path
