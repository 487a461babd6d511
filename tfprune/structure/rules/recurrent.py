"""Recurrent layers: each unit has one column in every gate, and one row of the recurrence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers as kl
from keras import tree

from tfprune.errors import type_name
from tfprune.graph.graph import Call, Ref
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import MAKE, USE, Axes, Ids, Site
from tfprune.structure.ids.rule_registry import layers, stop
from tfprune.structure.rules.activation import is_pointwise
from tfprune.structure.rules.convolution import channel_axis, no_ids_in_space, replace

MIRROR = "mirror"
"""The path of a layer whose config Keras derives from that of another layer."""

GATES = {kl.SimpleRNNCell: 1, kl.GRUCell: 3, kl.LSTMCell: 4}


@dataclass(frozen=True)
class Cell:
    """One cell of a recurrent layer, and the units that it makes."""

    units: Ids
    states: int


@layers(kl.SimpleRNN, kl.GRU, kl.LSTM, kl.RNN)
def recurrent(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Bind the weights of one cell, or of several stacked ones."""
    layer = call.op
    x = no_ids_in_space(flow, call, flow.axes(call.args[0]), 2)[2]
    cells = bind_cells(flow, flow.site(layer), layer, x)
    if isinstance(cells, str):
        return stop(flow, call, cells)
    states = _states(flow, call, cells)
    sequence = _sequence(layer, cells)
    if not layer.return_state:
        return sequence
    return [sequence, *((None, units) for units in states)]


def bind_cells(flow: Flow, site: Site, layer: Any, x: Ids | None) -> list[Cell] | str:
    """Bind the weights of a layer's cells, or return why they have no rule.

    The first cell uses the ids `x`.
    """
    if type(layer) is not kl.RNN:
        homes = [(layer.cell, site)]
    elif isinstance(layer.cell, kl.StackedRNNCells):
        homes = [
            (cell, site.inside(cell, "cell", "config", "cells", number, label=cell.name))
            for number, cell in enumerate(layer.cell.cells)
        ]
    else:
        homes = [(layer.cell, site.inside(layer.cell, "cell"))]
    for cell, _ in homes:
        if type(cell) not in GATES:
            return f"runs {cell.name} ({type_name(cell)}), which has no rule"
    made = []
    for cell, home in homes:
        units = _bind_cell(home, cell, x)
        if not _is_elementwise(cell):
            flow.freeze(units, "its activation has no rule")
            return "has an activation without a rule"
        made.append(Cell(units, len(tree.flatten(cell.state_size))))
        x = units
    return made


def _is_elementwise(cell: Any) -> bool:
    used = [cell.activation, getattr(cell, "recurrent_activation", cell.activation)]
    return all(map(is_pointwise, used))


def _bind_cell(site: Site, cell: Any, x: Ids | None) -> Ids:
    """Bind the weights of a cell: in kernels of (…, gates · units), a unit is a column per gate."""
    units = site.make("units", cell.units)
    columns = np.tile(units, GATES[type(cell)])
    site.bind(cell.kernel, 0, x, USE)
    site.bind(cell.kernel, 1, columns, MAKE)
    site.bind(cell.recurrent_kernel, 0, units, USE)
    site.bind(cell.recurrent_kernel, 1, columns, MAKE)
    if cell.use_bias:
        site.bind(cell.bias, -1, columns)
    return units


def _states(flow: Flow, call: Call, cells: Sequence[Cell]) -> list[Ids]:
    """Return the units of each state, joined with those of the given initial states."""
    states = [cell.units for cell in cells for _ in range(cell.states)]
    starts = call.args[1] if len(call.args) > 1 else call.kwargs.get("initial_state")
    given = [state for state in tree.flatten(starts) if state is not None]
    for state, units in zip(given, states, strict=bool(given)):
        flow.join(flow.axes(state)[-1], units, f"{call.path} uses this as its initial state")
    return states


def _sequence(layer: Any, cells: Sequence[Cell]) -> Axes:
    units = cells[-1].units
    return (None, None, units) if layer.return_sequences else (None, units)


@layers(kl.ConvLSTM1D, kl.ConvLSTM2D, kl.ConvLSTM3D)
def convolutional(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Bind the weights of a convolutional LSTM: a filter is a column of each gate's kernel."""
    layer, cell, site = call.op, call.op.cell, flow.site(call.op)
    first, *starts = tree.flatten((call.args, call.kwargs.get("initial_state")))
    rank = len(flow.shape(first))
    axis = channel_axis(layer.data_format, rank - 1)
    x = no_ids_in_space(flow, call, flow.axes(first), axis + 1)
    filters = site.make("filters", layer.filters)
    columns = np.tile(filters, 4)
    site.bind(cell.kernel, -2, x[axis + 1], USE)
    site.bind(cell.kernel, -1, columns, MAKE)
    site.bind(cell.recurrent_kernel, -2, filters, USE)
    site.bind(cell.recurrent_kernel, -1, columns, MAKE)
    if cell.use_bias:
        site.bind(cell.bias, 0, columns)
    for start in starts:
        if isinstance(start, Ref):
            flow.join(flow.axes(start)[axis], filters, f"{call.path} uses this as its state")
    if not _is_elementwise(cell):
        flow.freeze(filters, "its activation has no rule")
        return stop(flow, call, "has an activation without a rule")
    state = replace((None,) * (rank - 1), axis, filters)
    sequence = (None, *state) if layer.return_sequences else state
    return [sequence, *([state] * (len(call.outputs) - 1))] if layer.return_state else sequence


@layers(kl.Bidirectional)
def bidirectional(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Bind two layers over the same input; their outputs are concatenated or joined."""
    layer = call.op
    forward, backward = layer.forward_layer, layer.backward_layer
    x = no_ids_in_space(flow, call, flow.axes(call.args[0]), 2)[2]
    if not all(_runs(one) for one in (forward, backward)):
        return stop(flow, call, "wraps something that has no rule")
    site = flow.site(layer)
    there = bind_cells(flow, site.inside(forward, "layer"), forward, x)
    mirror = not layer.get_config().get("backward_layer")
    inner = site.inside(backward, MIRROR if mirror else "backward_layer")
    back = bind_cells(flow, inner, backward, x)
    if isinstance(there, str) or isinstance(back, str):
        return stop(flow, call, there if isinstance(there, str) else str(back))
    if mirror:
        # The backward layer has the config of the forward one: both keep equal counts.
        for path in [path for path in site.edits if path[0] == MIRROR]:
            del site.edits[path]
        for one, other in zip(there[:-1], back[:-1], strict=True):
            flow.block(np.concatenate([one.units, other.units]), 2)
    states = _states(flow, call, [*there, *back])
    shown = _both(flow, call, there[-1].units, back[-1].units, tied=mirror)
    outputs = [(*_sequence(forward, there)[:-1], units) for units in shown]
    if layer.return_state:
        return [*outputs, *((None, units) for units in states)]
    return outputs if layer.merge_mode is None else outputs[0]


def _both(flow: Flow, call: Call, first: Ids, second: Ids, *, tied: bool) -> list[Ids]:
    """Return the ids of the outputs of two directions: concatenated, joined, or separate."""
    mode = call.op.merge_mode
    if mode == "concat":
        # Keras assumes that the output is twice as wide as the forward layer.
        out = np.concatenate([first, second])
        flow.block(out, 2)
        return [out]
    if mode is None:
        if tied:
            flow.tie(np.stack([first, second]))
        return [first, second]
    flow.join(first, second, f"{call.path} adds its two directions")
    return [first]


def _runs(layer: Any) -> bool:
    """Return whether a layer is one of these recurrent layers."""
    return type(layer) in (kl.SimpleRNN, kl.GRU, kl.LSTM, kl.RNN)
