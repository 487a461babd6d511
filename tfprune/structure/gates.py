"""Gates placed where units are made."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.filters import as_filters
from tfprune.filters import choose as select
from tfprune.structure.choice import check_filters, names_of
from tfprune.structure.flow import CHANNELS, WIDTH
from tfprune.structure.graph import Call
from tfprune.structure.layers import ChannelGate
from tfprune.structure.rebuild import read_weights, rebuild
from tfprune.structure.units import Units, units
from tfprune.twins import carry_compile


def add_gates(
    model: Any,
    *,
    kind: str = "hard_concrete",
    penalty: float = 0.0,
    only: str | Sequence[str | Callable] = (),
    skip: str | Sequence[str | Callable] = (),
    input_shape: Any = None,
) -> Any:
    """A copy of a model with a `ChannelGate` after each layer that makes removable units.

    A gate stands after the BatchNormalization that follows its layer, where there is one: there
    a closed gate is silent. Units that several layers make together (residual streams) are not
    gated, since no single gate could close them. Train the result, then
    `shrink(model, "gates")`.

    Args:
        model: A built Keras 3 model.
        kind: "hard", "l1" or "hard_concrete"; see `ChannelGate`.
        penalty: The weight of the gates' penalty in the loss.
        only: Names or regular expressions of layers (or predicates of a `Group`): no others.
        skip: Those that get none.
        input_shape: For a subclassed model that was never called.

    Returns:
        A new model with the weights of the old, compiled as it was; until gates close it computes
        the same for kinds "hard" and "l1".

    Raises:
        FilterError: A name in `only` or `skip` matches nothing.
        OptionError: The kind or penalty is not one that a gate takes.

    Example:
        >>> import keras
        >>> import tfprune
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="hidden"),
        ...                           keras.layers.Dense(2)])
        >>> gated = tfprune.add_gates(model, kind="hard")
        >>> [layer.name for layer in gated.layers][2]
        'hidden_gate'
    """
    ChannelGate(kind, penalty)
    found = units(model, input_shape=input_shape)
    only, skip = as_filters("only", only), as_filters("skip", skip)
    check_filters(found, "only", only)
    check_filters(found, "skip", skip)
    wanted = select(found.groups, names_of, only, skip)
    makers: dict[int, Any] = {}
    for group, take in zip(found.groups, wanted, strict=True):
        single = len(group.producers) == 1 and group.kind in (CHANNELS, WIDTH)
        if take and single:
            makers[id(group.producers[0].op)] = group.producers[0].op
    after: dict[int, Callable[[Any], Any]] = {}
    taken = {call.op.name for call in found.graph.calls}
    for call in found.graph.calls:
        if id(call.op) in makers and found.flow.calls_of(call.op) == 1 and _last_axis(found, call):
            name = next(
                name
                for number in itertools.count(1)
                if (name := f"{call.op.name}_gate" + (f"_{number}" if number > 1 else ""))
                not in taken
            )
            after[id(_place(found, call))] = _gate(kind, penalty, name)
    everything = np.ones(found.flow.size, bool)
    gated, _ = rebuild(found, everything, read_weights(found), after=after)
    carry_compile(model, gated)
    return gated


def _gate(kind: str, penalty: float, name: str) -> Callable[[Any], Any]:
    return lambda tensor: ChannelGate(kind, penalty, name=name)(tensor)


def _last_axis(found: Units, call: Call) -> bool:
    """Tell whether what a call makes lies along the last axis of its one output alone."""
    axes = found.flow.axes(call.outputs[0])
    return len(call.outputs) == 1 and axes[-1] is not None


def _place(found: Units, call: Call) -> Call:
    """The call after which the gate stands."""
    reader = found.graph.only_reader(*call.outputs)
    linear = getattr(call.op, "activation", None) is keras.activations.linear
    if reader and linear and isinstance(reader.op, keras.layers.BatchNormalization):
        return reader
    return call
