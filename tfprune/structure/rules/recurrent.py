"""Recurrent layers: each unit has one column in every gate, and one row of the recurrence."""

import numpy as np
from keras import layers as kl

from tfprune.structure.flow import MAKE, USE, Axes, Flow, Ids, Site
from tfprune.structure.graph import Call
from tfprune.structure.rules.activation import POINTWISE
from tfprune.structure.rules.movement import stop
from tfprune.structure.rules.table import find, layers

GATES = {kl.SimpleRNN: 1, kl.GRU: 3, kl.LSTM: 4}


@layers(kl.SimpleRNN, kl.GRU, kl.LSTM)
def recurrent(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Of kernels of shape (…, gates · units), a unit is one column of each gate."""
    layer = call.op
    x = flow.axes(call.args[0])
    starts = [*call.args[1:2]] if len(call.args) > 1 else [call.kwargs.get("initial_state")]
    units = bind_cell(flow, flow.site(layer), layer, x[-1])
    if units is None:
        return stop(flow, call, "has an activation without a rule")
    for state in _flat(starts):
        flow.join(flow.axes(state)[-1], units, f"{call.path} takes this as its first state")
    _cost(flow, call, layer, units)
    sequence = (None, None, units) if layer.return_sequences else (None, units)
    if not layer.return_state:
        return sequence
    return [sequence, *([(None, units)] * (len(call.outputs) - 1))]


def _flat(states: list) -> list:
    out = []
    for state in states:
        if isinstance(state, list | tuple):
            out.extend(_flat(list(state)))
        elif state is not None:
            out.append(state)
    return out


def bind_cell(flow: Flow, site: Site, layer: object, x: Ids | None) -> Ids | None:
    """Bind a cell's weights. None: an activation of it has no rule."""
    cell, gates = layer.cell, GATES[type(layer)]  # type: ignore[attr-defined]
    units = site.make("units", cell.units)
    names = [cell.activation.__name__]
    if hasattr(cell, "recurrent_activation"):
        names.append(cell.recurrent_activation.__name__)
    columns = np.tile(units, gates)
    site.bind(cell.kernel, 0, x, USE)
    site.bind(cell.kernel, 1, columns, MAKE)
    site.bind(cell.recurrent_kernel, 0, units, USE)
    site.bind(cell.recurrent_kernel, 1, columns, MAKE)
    if cell.use_bias:
        site.bind(cell.bias, -1, columns)
    if not set(names) <= POINTWISE:
        flow.freeze(units, "its activation has no rule")
        return None
    return units


def _cost(flow: Flow, call: Call, layer: object, units: Ids) -> None:
    batch, steps, width = flow.extents(call.args[0])
    gates = GATES[type(layer)]
    flow.cost(call, gates, batch, steps, width, units)
    flow.cost(call, gates, batch, steps, units, units)


@layers(kl.Bidirectional)
def bidirectional(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Two layers over the same input, their outputs side by side or joined."""
    layer = call.op
    forward, backward = layer.forward_layer, layer.backward_layer
    x = flow.axes(call.args[0])
    more = len(call.args) > 1 or "initial_state" in call.kwargs
    if type(forward) not in GATES or type(backward) not in GATES or forward.return_state or more:
        return stop(flow, call, "wraps something that has no rule, or passes states")
    site = flow.site(layer)
    config = layer.get_config()
    first = bind_cell(flow, site.inside(forward, "layer"), forward, x[-1])
    under = "backward_layer" if config.get("backward_layer") else "mirror"
    inner = site.inside(backward, under)
    second = bind_cell(flow, inner, backward, x[-1])
    if first is None or second is None:
        return stop(flow, call, "has an activation without a rule")
    if under == "mirror":
        # The backward layer is a copy of the forward one: as many units stay in both.
        del site.edits[("mirror", "config", "units")]
    _cost(flow, call, forward, first)
    _cost(flow, call, backward, second)
    mode = layer.merge_mode
    if mode == "concat":
        # Keras takes the output to be twice as wide as the forward layer, whatever the other is.
        out = np.concatenate([first, second])
        flow.block(out, 2)
    else:
        flow.join(first, second, f"{call.path} adds its two directions")
        out = first
    sequence: Axes = (None, None, out) if forward.return_sequences else (None, out)
    if mode is None:
        if under == "mirror":
            flow.tie(np.stack([first, second]))
        return [(*sequence[:-1], first), (*sequence[:-1], second)]
    return sequence


@layers(kl.TimeDistributed)
def time_distributed(flow: Flow, call: Call) -> Axes:
    """The inner layer's rule, with the time axis taken out."""
    layer, inner = call.op, call.op.layer
    rule = find(inner)
    if rule is None or hasattr(inner, "_functional") or hasattr(inner, "operations"):
        return stop(flow, call, f"wraps {inner.name}, which has no rule")
    site = flow.site(layer)
    flow.freeze(flow.axes(call.args[0])[1], f"{call.path} runs over this axis")
    virtual = flow.virtual(inner, call, 1)
    flow.sites[id(inner)] = site.inside(inner, "layer")
    before = len(flow.costs)
    axes = rule(flow, virtual)
    flow.repeat_costs(before, call, flow.sizes[call.args[0].index][1])
    for ids in flow.gathered.pop(id(virtual), ()):
        flow.gather(call, ids)
    if not isinstance(axes, tuple):
        return stop(flow, call, f"wraps {inner.name}, which has several outputs")
    return (axes[0], None, *axes[1:])
