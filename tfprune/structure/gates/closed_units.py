"""Units that training has closed already: all their weights are zero, or a gate is.

Such a unit may still speak: BatchNormalization's beta makes a constant of it. A constant that
reaches a Dense layer, or a convolution that does not pad, is folded into the bias exactly. First
it is decided what goes: what speaks where its constant cannot be taken up stays, blocks stay
equal, and nothing is emptied. Then the constants of what goes are folded, and of nothing else.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from tfprune.structure.gates.closed_values import Heard, Voice, listen
from tfprune.structure.gates.layers import ChannelGate
from tfprune.structure.groups.grouping import Group
from tfprune.structure.groups.units import Units, vectors
from tfprune.structure.ids.ids import MAKE, USE, places, positions
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.weights import Weights

SHOWN = 8
"""So many positions of units that stay are named."""


def closed_units(cut: Cut, *, gates: bool, input_shape: Any = None) -> Cut:
    """The cut by which also those units go of which nothing is left, their constants folded in.

    Args:
        cut: A cut of branches, if of anything.
        gates: Whether closed gates count, or weights that are all zero.
        input_shape: The shape of the input, where the model leaves it open.
    """
    found, weights = cut.left, cut.weights
    free, zero = _free(found), _all_zero(found, weights, MAKE)
    closed = free & (_gated(found) if gates else zero)
    unused = free & _unused(found, weights) if not gates else np.zeros_like(free)
    choice = _Choice(found, closed | unused)
    for group in found.groups:
        if not group.exact:
            choice.keep(group.units[~unused[group.units]], group.reasons[0])
    heard = Heard([], [])
    if (speaking := choice.going & ~unused).any():
        heard = listen(found, weights, speaking, zero, input_shape)
    for call, roots in heard.inside:
        choice.keep(_some(roots, ~unused), f"{call.path} uses what they are inside, not as zeros")
    for voice in heard.voices:
        reason = _cannot_fold(found, weights, voice)
        loud = voice.roots[~voice.silent & (~voice.steady | bool(reason))]
        choice.keep(_some(loud, ~unused), reason or f"{voice.call.path} is told more than one "
                    "constant by them")  # fmt: skip
    choice.stay_even()
    choice.leave_some()
    going = choice.going
    folded = dict(weights)
    for voice in heard.voices:
        _fold(folded, voice, going & ~unused)
    removed, notes = np.flatnonzero(going), tuple(choice.notes())
    return replace(cut, removed=removed, weights=folded, notes=notes)


def _some(roots: np.ndarray, these: np.ndarray) -> np.ndarray:
    return roots[these[roots]]


# what is closed


def _free(found: Units) -> np.ndarray:
    free = np.zeros(found.flow.size, bool)
    for group in found.groups:
        free[group.units] = True
    return free


def _all_zero(found: Units, weights: Weights, role: str) -> np.ndarray:
    """Roots all of whose slices of this role are zero, and that have some."""
    has, speaks = np.zeros(found.flow.size, bool), np.zeros(found.flow.size, bool)
    # Queries use up the width that they share with keys.
    hushed = [(site, binding) for site in found.sites for binding in site.hushed]
    for site, binding in (*found.bindings, *hushed):
        if binding.role != role:
            continue
        place = places(site.op)[id(binding.weight)]
        for ids, rows in positions(weights[id(site.op)][place], binding):
            roots = found.root[ids]
            has[roots] = True
            speaks[roots[(rows != 0).any(axis=1)]] = True
    return has & ~speaks


def _unused(found: Units, weights: Weights) -> np.ndarray:
    quiet = _all_zero(found, weights, USE)
    for silence in found.flow.silences:
        quiet[found.root[silence.ids]] = False
    for listened in found.flow.gathered.values():
        for ids in listened:
            quiet[found.root[ids]] = False
    return quiet


def _gated(found: Units) -> np.ndarray:
    closed = np.zeros(found.flow.size, bool)
    for site, binding in found.bindings:
        if isinstance(site.op, ChannelGate):
            values = keras.ops.convert_to_numpy(site.op.values())
            closed[found.root[binding.ids[values == 0]]] = True
    return closed


# what goes


@dataclass(eq=False)
class _Choice:
    """The closed units that go, and why the others stay."""

    found: Units
    going: np.ndarray
    why: dict[int, str] = field(default_factory=dict)

    def keep(self, roots: np.ndarray, reason: str) -> None:
        """Let closed units stay."""
        for root in roots[self.going[roots]]:
            self.why[int(root)] = reason
        self.going[roots] = False

    def stay_even(self) -> None:
        """Let as many stay in each block of a group as in any other."""
        for group in self.found.groups:
            if group.block_count == 1:
                continue
            blocks = [_some(block, self.going) for block in _blocks(group)]
            fewest = min(map(len, blocks))
            for mine in blocks:
                reason = f"as many stay in each of the {group.block_count} blocks of {group.name}"
                self.keep(mine[: len(mine) - fewest], reason)

    def leave_some(self) -> None:
        """Let one unit stay, in each block, of what would be emptied."""
        home = {int(unit): group for group in self.found.groups for unit in group.units}
        for ids in vectors(self.found):
            line = self.found.root[ids]
            if not self.going[line].all():
                continue
            at = next(p for p in self.found.flow.producers if p.start <= ids[0] < p.stop)
            first, group = line[0], home[int(line[0])]
            for block in _blocks(group):
                # Blocks are even: where one loses all that it may, so does each.
                mine = [first] if first in block else _some(block, self.going)[:1]
                self.keep(np.array(mine), f"all of {at.op.name} are closed, and one has to stay")

    def notes(self) -> Iterator[str]:
        """What stays though it is closed, by group and reason."""
        for group in self.found.groups:
            held: dict[str, list[int]] = {}
            for unit in group.units:
                if int(unit) in self.why:
                    held.setdefault(self.why[int(unit)], []).append(int(unit))
            for reason, units in held.items():
                which = f"{len(units)} closed units of {group.name} stay"
                yield f"{which}{self._at(group, units)}: {reason}"

    def _at(self, group: Group, units: list[int]) -> str:
        """The positions of some units along the first axis that makes them all."""
        for producer in group.producers:
            made = self.found.root[producer.start : producer.stop]
            if np.isin(units, made).all():
                here = np.flatnonzero(np.isin(made, units)).tolist()
                more = ", …" if len(here) > SHOWN else ""
                return f" ({', '.join(map(str, here[:SHOWN]))}{more})"
        return ""


def _blocks(group: Group) -> list[np.ndarray]:
    return [group.units[group.blocks == block] for block in range(group.block_count)]


# what they leave behind


def _cannot_fold(found: Units, weights: Weights, voice: Voice) -> str:
    """Why a call cannot take up a constant, or "" where it can."""
    layer, name = voice.call.op, voice.call.path
    conv = isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D)
    if not (conv or isinstance(layer, keras.layers.Dense)) or id(layer) not in weights:
        return f"{name} cannot take up the constant that they are"
    if layer.bias is None:
        return f"{name} has no bias to take up the constant that they are"
    if found.flow.calls_of(layer) > 1:
        return f"{name}, called {found.flow.calls_of(layer)} times, cannot take up their constant"
    if conv and layer.padding != "valid" and set(layer.kernel_size) != {1}:
        return f"{name} pads, and so cannot take up the constant that they are"
    return ""


def _fold(weights: Weights, voice: Voice, going: np.ndarray) -> None:
    """Add to a layer's bias what units that go have told it."""
    here = going[voice.roots] & ~voice.silent
    if not here.any():
        return
    layer = voice.call.op
    arrays, place = list(weights[id(layer)]), places(layer)
    kernel, at = arrays[place[id(layer.kernel)]], place[id(layer.bias)]
    groups = getattr(layer, "groups", 1)
    taps = kernel.reshape(math.prod(kernel.shape[:-2]), kernel.shape[-2], groups, -1).sum(axis=0)
    constant = np.where(here, voice.constant, 0).reshape(groups, -1)
    added = np.einsum("gi,igo->go", constant, taps).ravel()
    arrays[at] = arrays[at] + added.astype(kernel.dtype)
    weights[id(layer)] = arrays
