"""Units that training has closed already: all their weights are zero, or a gate is.

Such a unit may still speak: BatchNormalization's beta makes a constant of it. A constant that
reaches a Dense layer, or a convolution that does not pad, is folded into the bias exactly.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.graph.read import Call, Ref
from tfprune.structure.gates.layers import ChannelGate
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import MAKE, USE, Ids, places
from tfprune.structure.proof.inputs import random_inputs
from tfprune.structure.rebuild.rebuild import Weights, execute, perform

QUIET = 1e-6
"""A voice that varies by less than this share of its tensor's largest number is constant."""


@dataclass(frozen=True, eq=False)
class Closed:
    """What can go: roots of units, the weights with their constants folded in, and notes."""

    removed: np.ndarray
    weights: Weights
    notes: tuple[str, ...]


@dataclass(eq=False)
class _Voice:
    """What closed positions say to one consumer: the constant of each id."""

    call: Call
    ids: Ids
    constant: np.ndarray
    steady: np.ndarray
    silent: np.ndarray


def closed_units(found: Units, weights: Weights, *, gates: bool, input_shape: Any = None) -> Closed:
    """The units that can be removed because nothing of them is left.

    Args:
        found: The units of the model.
        weights: Its weights.
        gates: Whether closed gates count, or weights that are all zero.
        input_shape: The shape of the input, where the model leaves it open.
    """
    candidates = _gated(found) if gates else _zero_makers(found, weights)
    candidates &= _free(found)
    notes: list[str] = []
    mixed = [group for group in found.groups if not group.exact and candidates[group.units].any()]
    for group in mixed:
        count = int(candidates[group.units].sum())
        notes.append(f"{count} closed units of {group.name} stay: {group.reasons[0]}")
        candidates[group.units] = False
    unused = _unused(found, weights) & _free(found)
    if candidates.any():
        voices = _listen(found, input_shape)
        speaking = _internal(found, weights, candidates & ~unused)
        for voice in voices:
            unsteady = found.root[voice.ids[~voice.steady]]
            speaking[unsteady] = True
        folded, stuck = _fold(found, weights, voices, candidates & ~speaking & ~unused)
        speaking |= stuck
        kept = np.flatnonzero(candidates & speaking & ~unused)
        if len(kept):
            notes.append(
                f"{len(kept)} units that are closed where they are made stay, since they "
                "still speak to a layer that cannot take up their constant"
            )
        folded, _ = _fold(found, weights, voices, candidates & ~speaking & ~unused)
        weights = folded
        candidates &= ~speaking
    if not gates:
        candidates |= unused
    removed = _even(found, candidates, notes)
    return Closed(removed, weights, tuple(notes))


def _free(found: Units) -> np.ndarray:
    free = np.zeros(found.flow.size, bool)
    for group in found.groups:
        free[group.units] = True
    return free


def _all_zero(found: Units, weights: Weights, role: str) -> np.ndarray:
    """Roots all of whose slices of this role are zero, and that have some."""
    from tfprune.structure.ids.ids import positions

    has, speaks = np.zeros(found.flow.size, bool), np.zeros(found.flow.size, bool)
    for site, binding in found.bindings:
        if binding.role != role:
            continue
        place = places(site.op)[id(binding.weight)]
        for ids, rows in positions(weights[id(site.op)][place], binding):
            roots = found.root[ids]
            has[roots] = True
            speaks[roots[(rows != 0).any(axis=1)]] = True
    return has & ~speaks


def _zero_makers(found: Units, weights: Weights) -> np.ndarray:
    return _all_zero(found, weights, MAKE)


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


def input_of(found: Units, call: Call, ids: Ids) -> tuple[Ref, int] | None:
    """The input and axis of a call that carry these very ids."""
    for ref in call.inputs:
        for axis, here in enumerate(found.flow.axes(ref)):
            if here is not None and here.shape == ids.shape and (here == ids).all():
                return ref, axis
    return None


def _listen(found: Units, input_shape: Any) -> list[_Voice]:
    """What each position says to each consumer, on random inputs."""
    ears: dict[int, list[tuple[Call, Ref, int, Ids]]] = {}
    for call in found.graph.calls:
        site = found.flow.sites.get(id(call.op))
        for binding in site.bindings if site is not None else ():
            if binding.role != USE or binding.ids.ndim != 1:
                continue
            at = input_of(found, call, binding.ids)
            if at is not None:
                ears.setdefault(id(call), []).append((call, *at, binding.ids))
        for silence in found.flow.silences:
            if silence.call is call:
                ears.setdefault(id(call), []).append((call, silence.ref, silence.axis, silence.ids))
    voices: list[_Voice] = []

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = {
            spec: value
            for spec, value in zip(
                tree.flatten((call.args, call.kwargs)), tree.flatten((args, kwargs)), strict=True
            )
            if isinstance(spec, Ref)
        }
        for _, ref, axis, ids in ears.get(id(call), ()):
            x = np.moveaxis(keras.ops.convert_to_numpy(given[ref]).astype(np.float64), axis, 0)
            rows = x.reshape(len(x), -1)
            scale = np.abs(rows).max() or 1.0
            mean = rows.mean(axis=1)
            steady = np.abs(rows - mean[:, None]).max(axis=1) <= QUIET * scale
            silent = np.abs(rows).max(axis=1) <= QUIET * 1e-3 * scale
            voices.append(_Voice(call, ids, np.where(silent, 0, mean), steady, silent))
        return perform(call.op, args, kwargs)

    inputs = random_inputs(found, np.random.default_rng(0), input_shape)
    execute(found.graph, [keras.ops.convert_to_tensor(array) for array in inputs], run)
    return voices


def _internal(found: Units, weights: Weights, candidates: np.ndarray) -> np.ndarray:
    """Candidates that are used inside of their own layer, and not only as zeros.

    Heads and recurrent units say nothing where their biases are zero too.
    """
    from tfprune.structure.ids.ids import positions

    speaking = np.zeros(found.flow.size, bool)
    for call in found.graph.calls:
        site = found.flow.sites.get(id(call.op))
        if site is None:
            continue
        own = [
            b
            for b in site.bindings
            if b.role == USE and (b.ids.ndim == 2 or input_of(found, call, b.ids) is None)
        ]
        inside = np.zeros(found.flow.size, bool)
        for binding in own:
            inside[found.root[binding.ids.ravel()]] = True
        if not (inside & candidates).any():
            continue
        for binding in site.bindings:
            if binding.role == USE:
                continue
            place = places(site.op)[id(binding.weight)]
            for ids, rows in positions(weights[id(site.op)][place], binding):
                roots = found.root[ids[(rows != 0).any(axis=1)]]
                speaking[roots[inside[roots]]] = True
        grouped = [b for b in own if b.ids.ndim == 2]
        for binding in grouped:
            speaking[found.root[binding.ids.ravel()]] = True
    return speaking


def _fold(
    found: Units, weights: Weights, voices: list[_Voice], going: np.ndarray
) -> tuple[Weights, np.ndarray]:
    """The weights with constants moved into biases, and the roots for which that cannot be."""
    result, stuck = dict(weights), np.zeros(found.flow.size, bool)
    for voice in voices:
        here = going[found.root[voice.ids]] & ~voice.silent
        if not here.any():
            continue
        layer = voice.call.op
        dense = isinstance(layer, keras.layers.Dense)
        conv = isinstance(
            layer, keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D
        ) and (layer.padding == "valid" or set(layer.kernel_size) == {1})
        if not (dense or conv) or layer.bias is None or found.flow.calls_of(layer) > 1:
            stuck[found.root[voice.ids[here]]] = True
            continue
        arrays = list(result[id(layer)])
        kernel, place = arrays[0], 1
        taps = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
        arrays[place] = arrays[place] + (voice.constant[here] @ taps[here]).astype(kernel.dtype)
        result[id(layer)] = arrays
    return result, stuck


def _even(found: Units, candidates: np.ndarray, notes: list[str]) -> np.ndarray:
    """What may go so that blocks stay equal and nothing is emptied."""
    from tfprune.structure.groups.units import vectors

    gone = candidates.copy()
    for group in found.groups:
        if group.block_count == 1 or not gone[group.units].any():
            continue
        count = min(
            int(gone[group.units[group.blocks == block]].sum())
            for block in range(group.block_count)
        )
        for block in range(group.block_count):
            mine = [unit for unit in group.units[group.blocks == block] if gone[unit]]
            gone[mine[: len(mine) - count]] = False
    for ids in vectors(found):
        line = np.unique(found.root[ids])
        if gone[line].all():
            gone[line[0]] = False
            at = next(p for p in found.flow.producers if p.start <= ids[0] < p.stop)
            notes.append(f"one unit of {at.op.name} stays though all of them are closed")
    return np.flatnonzero(gone)
