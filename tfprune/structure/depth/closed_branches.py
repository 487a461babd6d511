"""Branches that training has closed: what they add is zero, or the same for every input."""

from collections.abc import Mapping

import numpy as np

from tfprune.graph.read import Call, Graph
from tfprune.graph.residual_blocks import Arm, Block, addends, can_go, keeps_the_sum
from tfprune.structure.depth.constants import find_constants, is_zero
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Branches
from tfprune.structure.rebuild.weights import Weights


def dead_branches(found: Units, weights: Weights) -> Branches:
    """The addends of a model that are the same whatever its input."""
    graph = found.graph
    constants = find_constants(graph, weights)
    blocks = {block.arm: block for block in found.blocks}
    arms: dict[Arm, np.ndarray | None] = {}
    notes: list[str] = []
    for place, call in enumerate(graph.calls):
        parts = addends(call)
        for position, ref in enumerate(parts):
            value = constants.get(ref.index)
            gone = [p for at, p in arms if at == place]
            if value is None or len(gone) == len(parts) - 1:
                continue
            name = _name(graph, blocks, (place, position))
            left = {position, *gone}
            if not can_go(call, position) or not keeps_the_sum(graph, call, left):
                notes.append(f"{name} adds the same to every input but stays: {call.path} would "
                             "not be the same without it")  # fmt: skip
            elif is_zero(value):
                arms[place, position] = None
                if (place, position) not in blocks:
                    notes.append(f"{name} adds nothing to {call.path}, which goes on without it")
            elif len(parts) == 2 and type(call.op).__name__ == "Add" and _storable(graph, call):
                dtype = graph.values[call.outputs[0].index].dtype
                arms[place, position] = value.astype(dtype)
                notes.append(f"{name} adds the same numbers to every input: they stay, as a "
                             "constant that is not trained")  # fmt: skip
            else:
                notes.append(f"{name} stays: it adds the same numbers to every input, which "
                             f"{call.path} cannot take up")  # fmt: skip
    return Branches(arms, tuple(notes))


def _storable(graph: Graph, call: Call) -> bool:
    """Tell whether a constant of the sum's type can be written into a model's config."""
    return graph.values[call.outputs[0].index].dtype in ("float32", "float16", "float64")


def _name(graph: Graph, blocks: Mapping[Arm, Block], arm: Arm) -> str:
    if arm in blocks:
        return blocks[arm].name
    ref = addends(graph.calls[arm[0]])[arm[1]]
    maker = graph.producers().get(ref.index)
    return maker.path if maker is not None else graph.calls[arm[0]].path
