"""Removing closed units: all their weights are zero, or their gate is.

The output of a closed unit is always the same constant, which need not be zero: the beta of a
BatchNormalization may be added. A constant that reaches a Dense layer, or a convolution without
padding, is folded into the bias exactly. First the units to remove are chosen: a unit is kept if
its constant cannot be folded, blocks keep equal counts, and no layer loses all its units. Then
the constants of the removed units are folded.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from tfprune.graph.rebuild import Weights
from tfprune.structure.gates.closed_values import ConsumerInput, Consumers, record_consumers
from tfprune.structure.gates.layers import ChannelGate
from tfprune.structure.groups.grouping import Group
from tfprune.structure.groups.units import Units, vectors
from tfprune.structure.ids.ids import MAKE, USE, places, positions
from tfprune.structure.rebuild.cut import Cut

SHOWN = 8
"""The most positions of kept units that a note lists."""


def closed_units(cut: Cut, *, gates: bool, input_shape: Any = None) -> Cut:
    """Return the cut that also removes the closed units, with their constants folded.

    Args:
        cut: A cut that removes no units yet; it may remove branches.
        gates: Whether a unit is closed by its gate; otherwise by weights that are all zero.
        input_shape: The shape of the input, if the model leaves it open.
    """
    found, weights = cut.left, cut.weights
    free, zero = _free(found), _all_zero(found, weights, MAKE)
    closed = free & (_gated(found) if gates else zero)
    unused = free & _unused(found, weights) if not gates else np.zeros_like(free)
    choice = _Choice(found, closed | unused)
    for group in found.groups:
        if not group.exact:
            choice.keep(group.units[~unused[group.units]], group.reasons[0])
    consumers = Consumers([], [])
    if (used := choice.removed & ~unused).any():
        consumers = record_consumers(found, weights, used, zero, input_shape)
    for call, roots in consumers.inside:
        reason = f"{call.path} uses their nonzero values internally"
        choice.keep(_some(roots, ~unused), reason)
    for given in consumers.inputs:
        reason = _cannot_fold(found, weights, given)
        blocked = given.roots[~given.is_zero & (~given.is_constant | bool(reason))]
        reason = reason or f"{given.call.path} receives more than one constant from them"
        choice.keep(_some(blocked, ~unused), reason)
    choice.balance_blocks()
    choice.keep_one_unit()
    folded = dict(weights)
    for given in consumers.inputs:
        _fold(folded, given, choice.removed & ~unused)
    removed, notes = np.flatnonzero(choice.removed), tuple(choice.notes())
    return replace(cut, removed=removed, weights=folded, notes=notes)


def _some(roots: np.ndarray, these: np.ndarray) -> np.ndarray:
    return roots[these[roots]]


# which units are closed


def _free(found: Units) -> np.ndarray:
    free = np.zeros(found.flow.size, bool)
    for group in found.groups:
        free[group.units] = True
    return free


def _all_zero(found: Units, weights: Weights, role: str) -> np.ndarray:
    """Return the roots that have weight slices of this role, all of which are zero."""
    has, nonzero = np.zeros(found.flow.size, bool), np.zeros(found.flow.size, bool)
    # Queries use the width that they share with keys.
    zeroed = [(site, binding) for site in found.sites for binding in site.zeroed]
    for site, binding in (*found.bindings, *zeroed):
        if binding.role != role:
            continue
        place = places(site.op)[id(binding.weight)]
        for ids, rows in positions(weights[id(site.op)][place], binding):
            roots = found.root[ids]
            has[roots] = True
            nonzero[roots[(rows != 0).any(axis=1)]] = True
    return has & ~nonzero


def _unused(found: Units, weights: Weights) -> np.ndarray:
    unused = _all_zero(found, weights, USE)
    for item in found.flow.zeroed_inputs:
        unused[found.root[item.ids]] = False
    for gathered in found.flow.gathered.values():
        for ids in gathered:
            unused[found.root[ids]] = False
    return unused


def _gated(found: Units) -> np.ndarray:
    closed = np.zeros(found.flow.size, bool)
    for site, binding in found.bindings:
        if isinstance(site.op, ChannelGate):
            values = keras.ops.convert_to_numpy(site.op.values())
            closed[found.root[binding.ids[values == 0]]] = True
    return closed


# which closed units are removed


@dataclass(eq=False)
class _Choice:
    """The closed units to remove, and why the others are kept."""

    found: Units
    removed: np.ndarray
    why: dict[int, str] = field(default_factory=dict)

    def keep(self, roots: np.ndarray, reason: str) -> None:
        """Keep closed units."""
        for root in roots[self.removed[roots]]:
            self.why[int(root)] = reason
        self.removed[roots] = False

    def balance_blocks(self) -> None:
        """Keep the same number of units in each block of a group."""
        for group in self.found.groups:
            if group.block_count == 1:
                continue
            blocks = [_some(block, self.removed) for block in _blocks(group)]
            fewest = min(map(len, blocks))
            for mine in blocks:
                reason = f"the {group.block_count} blocks of {group.name} keep equal counts"
                self.keep(mine[: len(mine) - fewest], reason)

    def keep_one_unit(self) -> None:
        """Keep one unit, in each block, of a layer that would lose all its units."""
        home = {int(unit): group for group in self.found.groups for unit in group.units}
        for ids in vectors(self.found):
            line = self.found.root[ids]
            if not self.removed[line].all():
                continue
            at = next(p for p in self.found.flow.producers if p.start <= ids[0] < p.stop)
            first, group = line[0], home[int(line[0])]
            for block in _blocks(group):
                # Blocks have equal counts: if one loses all prunable units, each does.
                mine = [first] if first in block else _some(block, self.removed)[:1]
                self.keep(np.array(mine), f"all of {at.op.name} are closed, and one must be kept")

    def notes(self) -> Iterator[str]:
        """Yield a note for each group and reason for which closed units are kept."""
        for group in self.found.groups:
            held: dict[str, list[int]] = {}
            for unit in group.units:
                if int(unit) in self.why:
                    held.setdefault(self.why[int(unit)], []).append(int(unit))
            for reason, units in held.items():
                which = f"{len(units)} closed units of {group.name} kept"
                yield f"{which}{self._at(group, units)}: {reason}"

    def _at(self, group: Group, units: list[int]) -> str:
        """Return the positions of units along the first axis that makes them all, as text."""
        for producer in group.producers:
            made = self.found.root[producer.start : producer.stop]
            if np.isin(units, made).all():
                here = np.flatnonzero(np.isin(made, units)).tolist()
                more = ", …" if len(here) > SHOWN else ""
                return f" ({', '.join(map(str, here[:SHOWN]))}{more})"
        return ""


def _blocks(group: Group) -> list[np.ndarray]:
    return [group.units[group.blocks == block] for block in range(group.block_count)]


# folding constants


def _cannot_fold(found: Units, weights: Weights, given: ConsumerInput) -> str:
    """Return why a constant cannot be folded into a call's bias, or "" if it can."""
    layer, name = given.call.op, given.call.path
    conv = isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D)
    if not (conv or isinstance(layer, keras.layers.Dense)) or id(layer) not in weights:
        return f"their constant output cannot be folded into {name}"
    if layer.bias is None:
        return f"{name} has no bias to fold their constant output into"
    if found.flow.calls_of(layer) > 1:
        times = found.flow.calls_of(layer)
        return f"their constant output cannot be folded into {name}, which is called {times} times"
    if conv and layer.padding != "valid" and set(layer.kernel_size) != {1}:
        return f"their constant output cannot be folded into {name}, which pads its input"
    return ""


def _fold(weights: Weights, given: ConsumerInput, removed: np.ndarray) -> None:
    """Add the constants of removed units to the bias of the layer that uses them."""
    here = removed[given.roots] & ~given.is_zero
    if not here.any():
        return
    layer = given.call.op
    arrays, place = list(weights[id(layer)]), places(layer)
    kernel, at = arrays[place[id(layer.kernel)]], place[id(layer.bias)]
    groups = getattr(layer, "groups", 1)
    taps = kernel.reshape(math.prod(kernel.shape[:-2]), kernel.shape[-2], groups, -1).sum(axis=0)
    constant = np.where(here, given.value, 0).reshape(groups, -1)
    added = np.einsum("gi,igo->go", constant, taps).ravel()
    arrays[at] = arrays[at] + added.astype(kernel.dtype)
    weights[id(layer)] = arrays
